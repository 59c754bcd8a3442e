// How did this reward come about: the rollout, its votes, labelled rollouts and queries like it, predictions?
// $rollout = ""
MATCH (q:Query)-[:GENERATES]->(t:Thinking)
WHERE t.id = $rollout
RETURN 1 AS place, 'this rollout' AS evidence, t.id AS id, 1.0 AS weight, t.reward AS reward, q.text AS text
UNION ALL
MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer)
WHERE t.id = $rollout
MATCH (q)-[:GENERATES]->(u:Thinking)
OPTIONAL MATCH (u)-[:LEADS_TO]->(b:Answer)
WHERE b.id = a.id
WITH a, count(u.id) AS rollouts, count(b.id) AS votes, avg(CASE WHEN b.id IS NOT NULL THEN u.reward END) AS reward
RETURN 2 AS place, 'its answer, share of votes' AS evidence, a.id AS id, votes * 1.0 / rollouts AS weight,
       reward, a.text AS text
UNION ALL
MATCH (t:Thinking)-[s:SIMILAR_TO]->(u:Thinking)
WHERE t.id = $rollout AND u.reward IS NOT NULL
MATCH (q:Query)-[:GENERATES]->(u)
RETURN 3 AS place, 'a labelled rollout like it' AS evidence, u.id AS id, s.score * 1.0 AS weight,
       u.reward AS reward, q.text AS text
UNION ALL
MATCH (q:Query)-[:GENERATES]->(t:Thinking)
WHERE t.id = $rollout
MATCH (q)-[s:SIMILAR_TO]->(p:Query)-[:GENERATES]->(u:Thinking)
WHERE u.reward IS NOT NULL
WITH p, s.score * 1.0 AS weight, avg(u.reward) AS reward
RETURN 4 AS place, 'a labelled query like its own' AS evidence, p.id AS id, weight, reward, p.text AS text
UNION ALL
MATCH (t:Thinking)-[s:SCORED_BY]->(m:RewardModel)
WHERE t.id = $rollout
RETURN 5 AS place, 'a prediction' AS evidence, m.id AS id, s.probability AS weight, s.reward AS reward,
       m.snapshot AS text
