// Which unlabelled queries are least like any labelled one?
// $limit = 20
MATCH (q:Query)
OPTIONAL MATCH (q)-[:GENERATES]->(t:Thinking)
WITH q, count(t.id) AS rollouts, count(t.reward) AS labels
WHERE labels = 0
OPTIONAL MATCH (q)-[s:SIMILAR_TO]->(p:Query)-[:GENERATES]->(u:Thinking)
WHERE u.reward IS NOT NULL
WITH q, rollouts, count(DISTINCT p.id) AS labelled_neighbours, max(s.score) AS best
OPTIONAL MATCH (q)-[:IN]->(d:Dataset)
WITH q, rollouts, labelled_neighbours, best, min(d.name) AS dataset
RETURN q.id AS query, dataset, q.text AS text, rollouts, labelled_neighbours,
       coalesce(best * 1.0, 0.0) AS best_similarity
ORDER BY best_similarity, query
LIMIT $limit
