// What share of the labelled rollouts is right, per dataset, policy and step?
MATCH (t:Thinking)
WHERE t.reward IS NOT NULL
WITH t.dataset AS dataset, t.policy AS policy, coalesce(t.step, -1) AS step, count(t.id) AS labelled,
     avg(CASE WHEN t.reward >= 0.5 THEN 1.0 ELSE 0.0 END) AS positive, avg(t.reward) AS mean_reward
RETURN dataset, policy, CASE WHEN step >= 0 THEN step END AS step, labelled, positive, mean_reward
ORDER BY dataset, policy, step
