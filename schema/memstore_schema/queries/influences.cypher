// What moved a model's score of this rollout, as `memstore explain --write` has measured it, and by how much?
// $rollout = ""
// $limit = 20
MATCH (t:Thinking)-[i:INFLUENCED_BY]->(n)
WHERE t.id = $rollout
RETURN i.model AS model, CASE WHEN n.created_at IS NULL THEN 'a query' ELSE 'a rollout' END AS kind, n.id AS id,
       i.weight AS weight, n.reward AS reward, n.text AS text
ORDER BY abs(weight) DESC, id, model
LIMIT $limit
