// How many rollouts have neither ground truth nor a prediction, per dataset?
MATCH (q:Query)-[:GENERATES]->(t:Thinking)
WHERE t.reward IS NULL AND NOT EXISTS { MATCH (t)-[:SCORED_BY]->(:RewardModel) }
RETURN t.dataset AS dataset, count(t.id) AS rollouts, count(DISTINCT q.id) AS queries
ORDER BY dataset
