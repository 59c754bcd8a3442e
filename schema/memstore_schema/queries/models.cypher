// Which reward models are there, and how many rollouts has each scored?
MATCH (m:RewardModel)
OPTIONAL MATCH (t:Thinking)-[s:SCORED_BY]->(m)
WITH m, count(t.id) AS scored, avg(s.probability) AS mean_probability
RETURN m.id AS model, m.version AS version, m.snapshot AS snapshot, scored, mean_probability
ORDER BY version, model
