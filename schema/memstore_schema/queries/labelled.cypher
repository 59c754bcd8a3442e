// What share of the queries and rollouts has ground truth, per dataset?
MATCH (q:Query)-[:IN]->(d:Dataset)
WITH DISTINCT q, d.name AS dataset
OPTIONAL MATCH (q)-[:GENERATES]->(t:Thinking)
WITH q, dataset, count(t.id) AS rollouts, count(t.reward) AS labels
WITH dataset, count(q.id) AS queries, sum(CASE WHEN labels > 0 THEN 1 ELSE 0 END) AS labelled_queries,
     sum(rollouts) AS rollouts, sum(labels) AS labelled_rollouts
RETURN dataset, queries, labelled_queries, labelled_queries * 1.0 / queries AS share, rollouts, labelled_rollouts
ORDER BY dataset
