// Where are ground truth and the newest prediction far apart?
// $margin = 0.5
// $limit = 20
MATCH (t:Thinking)-[:SCORED_BY]->(m:RewardModel)
WHERE t.reward IS NOT NULL
WITH t, max(m.version) AS newest
MATCH (t)-[s:SCORED_BY]->(m:RewardModel)
WHERE m.version = newest AND abs(t.reward - s.probability) >= $margin
MATCH (q:Query)-[:GENERATES]->(t)
RETURN t.id AS rollout, q.id AS query, t.dataset AS dataset, t.policy AS policy, t.reward AS reward,
       s.probability AS probability, m.id AS model, abs(t.reward - s.probability) AS gap
ORDER BY gap DESC, rollout, model
LIMIT $limit
