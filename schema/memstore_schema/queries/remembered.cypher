// Which answers does the memory know to be right or wrong, of all queries or of the one given?
// $query = ""
// $limit = 20
MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer)
WHERE a.verdict IS NOT NULL AND ($query = '' OR q.id = $query)
WITH q, a, count(t.id) AS rollouts
RETURN q.id AS query, q.text AS text, a.text AS answer, a.verdict AS verdict, a.verdict_source AS source,
       a.verdict_at AS judged_at, rollouts
ORDER BY query, verdict DESC, rollouts DESC, answer, a.id
LIMIT $limit
