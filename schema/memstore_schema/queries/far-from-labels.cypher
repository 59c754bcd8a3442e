// Which unlabelled queries are least like any labelled one?
// $limit = 20
MATCH (q:Query)
OPTIONAL MATCH (q)-[:GENERATES]->(t:Thinking)
WITH q, count(t.id) AS rollouts, count(t.reward) AS labels
WHERE labels = 0
OPTIONAL MATCH (q)-[s:SIMILAR_TO]->(p:Query)-[:GENERATES]->(u:Thinking)
WHERE u.reward IS NOT NULL
WITH q, rollouts, count(DISTINCT p.id) AS labelled_neighbours, max(s.score) AS best
RETURN q.id AS query, q.dataset AS dataset, q.text AS text, rollouts, labelled_neighbours,
       coalesce(best * 1.0, 0.0) AS best_similarity
ORDER BY best_similarity, query
LIMIT $limit
