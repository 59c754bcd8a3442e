// Which queries are so alike that they may be one?
// $threshold = 0.95
// $limit = 20
MATCH (p:Query)-[s:SIMILAR_TO]->(q:Query)
WHERE s.score >= $threshold
OPTIONAL MATCH (q)-[back:SIMILAR_TO]->(p)
WITH p, q, s.score * 1.0 AS similarity, back.score AS other_way
WHERE p.id < q.id OR other_way IS NULL
OPTIONAL MATCH (p)-[:IN]->(d:Dataset)
WITH p, q, similarity, min(d.name) AS dataset
RETURN p.id AS query, q.id AS other, dataset, similarity, p.text AS text, q.text AS other_text
ORDER BY similarity DESC, query, other
LIMIT $limit
