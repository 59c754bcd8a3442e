// Which scores did this query, rollout, answer or policy move, and which further scores did those rollouts move?
// $node = ""
// $limit = 20
MATCH (t:Thinking)-[i:INFLUENCED_BY]->(n)
OPTIONAL MATCH (o:Query)-[:GENERATES]->(n)
OPTIONAL MATCH (r:Thinking)-[:LEADS_TO]->(n), (t)-[c:SCORED_BY]->(m:RewardModel)
WHERE r.reward IS NOT NULL AND c.source = 'remembered' AND m.id = i.model
WITH t, i, n, o, r
WHERE n.id = $node OR o.id = $node OR r.id = $node
OPTIONAL MATCH (u:Thinking)-[j:INFLUENCED_BY]->(t)
WHERE j.model = i.model
WITH collect(DISTINCT {hop: 1, via: n.id, rollout: t.id, model: i.model, weight: i.weight, effect: i.effect}) AS near,
     collect(DISTINCT CASE WHEN u.id IS NOT NULL
                           THEN {hop: 2, via: t.id, rollout: u.id, model: j.model, weight: j.weight, effect: j.effect}
                      END) AS far
UNWIND near + far AS row
MATCH (q:Query)-[:GENERATES]->(t:Thinking)
WHERE t.id = row.rollout
OPTIONAL MATCH (t)-[:LEADS_TO]->(a:Answer)
RETURN row.hop AS hop, row.via AS via, row.rollout AS rollout, row.weight AS weight, row.effect AS effect,
       a.text AS answer, q.text AS text, row.model AS model
ORDER BY hop, abs(weight) DESC, rollout, via, model
LIMIT $limit
