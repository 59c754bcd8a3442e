// Which queries have rollouts that are split between answers, the most divided first?
// $limit = 20
MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer)
WITH q, a, count(t.id) AS votes
WITH q, sum(votes) AS rollouts, count(a.id) AS answers, max(votes) AS most
WHERE answers > 1
OPTIONAL MATCH (q)-[:IN]->(d:Dataset)
WITH q, rollouts, answers, most, min(d.name) AS dataset
RETURN q.id AS query, dataset, q.text AS text, rollouts, answers, most * 1.0 / rollouts AS top_share
ORDER BY top_share, query
LIMIT $limit
