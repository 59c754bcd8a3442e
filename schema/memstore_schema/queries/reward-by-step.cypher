// How does the mean reward of a run go from step to step, by where the reward comes from?
// $run = ""
// $steps = 1
MATCH (t:Thinking)
WHERE t.step IS NOT NULL AND ($run = '' OR t.run = $run)
OPTIONAL MATCH (t)-[:SCORED_BY]->(m:RewardModel)
WITH t, max(m.version) AS newest
OPTIONAL MATCH (t)-[s:SCORED_BY]->(m:RewardModel)
WHERE m.version = newest
WITH t.run AS run, t.step - t.step % $steps AS step, t.id AS rollout, coalesce(t.reward, s.probability) AS reward,
     CASE WHEN t.reward IS NOT NULL THEN t.reward_source
          WHEN s.probability IS NOT NULL THEN coalesce(s.source, 'predicted') ELSE 'unscored' END AS source
RETURN run, step, source, count(rollout) AS rollouts, avg(reward) AS mean_reward
ORDER BY run, step, source
