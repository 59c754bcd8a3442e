// How do the rollouts of each query (or of the one given) vote, and what do ground truth and predictions say?
// $query = ""
// $limit = 20
MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer)
WHERE $query = '' OR q.id = $query
OPTIONAL MATCH (t)-[:SCORED_BY]->(m:RewardModel)
WITH q, a, t, max(m.version) AS newest
OPTIONAL MATCH (t)-[s:SCORED_BY]->(n:RewardModel)
WHERE n.version = newest
WITH q, a, count(DISTINCT t.id) AS votes, avg(t.reward) AS ground_truth, avg(s.probability) AS prediction
OPTIONAL MATCH (q)-[:IN]->(d:Dataset)
WITH q, a, votes, ground_truth, prediction, min(d.name) AS dataset
RETURN q.id AS query, dataset, a.text AS answer, votes, ground_truth, prediction
ORDER BY query, votes DESC, answer, a.id
LIMIT $limit
