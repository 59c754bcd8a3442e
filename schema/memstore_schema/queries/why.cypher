// Which nodes made a model's score of this rollout, by how much, and what does each say?
// empty: no explanation of this rollout is stored; store one with: memstore explain ID --write
// $rollout = ""
// $limit = 20
MATCH (t:Thinking)-[x:INFLUENCED_BY]->()
WHERE t.id = $rollout
WITH x.model AS model, count(x) AS influences, sum(x.weight) AS log_odds
MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[i:INFLUENCED_BY]->(n)
WHERE t.id = $rollout AND i.model = model
OPTIONAL MATCH (p:Query)-[:GENERATES]->(n)
OPTIONAL MATCH (n)-[:LEADS_TO]->(a:Answer)
OPTIONAL MATCH (t)-[s:SIMILAR_TO]->(n)
OPTIONAL MATCH (q)-[r:SIMILAR_TO]->(n)
OPTIONAL MATCH (n)-[e:RELIABLE_IN]->(d:Dataset)
WHERE d.name = t.dataset
OPTIONAL MATCH (n)-[:GENERATES]->(u:Thinking)
WITH influences, log_odds, i, n, p.id = q.id AS own, a.text AS answer, s.score AS thinking, r.score AS query,
     e.reliability AS reliability, avg(u.reward) AS mean
RETURN i.model AS model, influences, log_odds, i.weight AS weight, i.effect AS effect,
       CASE WHEN n.domain IS NOT NULL THEN 'a labelled query' WHEN own THEN 'a rollout of the query'
            WHEN own IS NOT NULL THEN 'a labelled rollout' WHEN n.value IS NOT NULL THEN 'an answer'
            WHEN n.version IS NOT NULL THEN 'the model' ELSE 'a policy' END AS kind,
       n.id AS id, coalesce(n.reward, n.verdict, mean) AS label,
       coalesce(n.reward_source, n.verdict_source) AS judged_by, n.step AS step, reliability,
       coalesce(thinking, query) AS cosine,
       coalesce(answer, n.text, n.name) AS text
ORDER BY model, abs(weight) DESC, id
LIMIT $limit
