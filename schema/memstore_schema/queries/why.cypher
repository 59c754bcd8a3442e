// How did this reward come about: the rollout, its votes, labelled rollouts and queries like it, predictions?
// $rollout = ""
MATCH (q:Query)-[:GENERATES]->(t:Thinking)
WHERE t.id = $rollout
OPTIONAL MATCH (t)-[:LEADS_TO]->(a:Answer)
MATCH (q)-[:GENERATES]->(u:Thinking)
OPTIONAL MATCH (u)-[:LEADS_TO]->(b:Answer)
WHERE b.id = a.id
WITH q, t, a, count(b.id) * 1.0 / count(u.id) AS share, avg(CASE WHEN b.id IS NOT NULL THEN u.reward END) AS mean
WITH q, t,
     collect({place: 1, evidence: 'this rollout', id: t.id, weight: 1.0, reward: t.reward, text: q.text}) AS itself,
     collect(CASE WHEN a.id IS NOT NULL THEN {place: 2, evidence: 'its answer, share of votes', id: a.id,
                                              weight: share, reward: mean, text: a.text} END) AS votes
OPTIONAL MATCH (t)-[s:SIMILAR_TO]->(u:Thinking)<-[:GENERATES]-(p:Query)
WHERE u.reward IS NOT NULL
WITH q, t, itself, votes,
     collect(CASE WHEN u.id IS NOT NULL THEN {place: 3, evidence: 'a labelled rollout like it', id: u.id,
                                              weight: s.score * 1.0, reward: u.reward, text: p.text} END) AS rollouts
OPTIONAL MATCH (q)-[s:SIMILAR_TO]->(p:Query)-[:GENERATES]->(u:Thinking)
WHERE u.reward IS NOT NULL
WITH t, itself, votes, rollouts, p, s.score * 1.0 AS weight, avg(u.reward) AS mean
WITH t, itself, votes, rollouts,
     collect(CASE WHEN p.id IS NOT NULL THEN {place: 4, evidence: 'a labelled query like its own', id: p.id,
                                              weight: weight, reward: mean, text: p.text} END) AS queries
OPTIONAL MATCH (t)-[s:SCORED_BY]->(m:RewardModel)
WITH itself, votes, rollouts, queries,
     collect(CASE WHEN m.id IS NOT NULL THEN {place: 5, evidence: 'a prediction', id: m.id,
                                              weight: s.probability, reward: s.reward, text: m.snapshot} END) AS scores
UNWIND itself + votes + rollouts + queries + scores AS row
RETURN row.place AS place, row.evidence AS evidence, row.id AS id, row.weight AS weight, row.reward AS reward,
       row.text AS text
ORDER BY place, weight DESC, id
