// How did the answers to each query (or to the one given) change from run to run and from step to step?
// $query = ""
// $limit = 50
MATCH (q:Query)-[:GENERATES]->(t:Thinking)
WHERE $query = '' OR q.id = $query
OPTIONAL MATCH (t)-[:SCORED_BY]->(m:RewardModel)
WITH q, t, max(m.version) AS newest
OPTIONAL MATCH (t)-[s:SCORED_BY]->(m:RewardModel)
WHERE m.version = newest
WITH q, t, avg(s.probability) AS prediction
OPTIONAL MATCH (t)-[:LEADS_TO]->(a:Answer)
WITH q.id AS query, t.run AS run, coalesce(t.step, -1) AS at, a, count(t.id) AS rollouts, count(a.id) AS votes,
     count(t.reward) AS labelled, sum(CASE WHEN t.reward > 0.5 THEN 1 ELSE 0 END) AS correct,
     count(prediction) AS predicted, sum(prediction) AS total
WITH query, run, at, sum(rollouts) AS rollouts, count(a.id) AS answers, max(votes) AS most, sum(labelled) AS labelled,
     sum(correct) AS correct, sum(predicted) AS predicted, sum(total) AS total,
     collect({text: a.text, votes: votes}) AS found
UNWIND found AS one
WITH query, run, at, rollouts, answers, labelled, correct, predicted, total,
     min(CASE WHEN one.votes = most AND most > 0 THEN one.text END) AS top_answer
RETURN query, run, CASE WHEN at >= 0 THEN at END AS step, rollouts, answers, top_answer, labelled,
       CASE WHEN labelled > 0 THEN correct * 1.0 / labelled END AS share_right,
       CASE WHEN predicted > 0 THEN total / predicted END AS mean_prediction
ORDER BY query, run, at
LIMIT $limit
