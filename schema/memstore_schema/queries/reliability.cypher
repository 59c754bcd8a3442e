// How reliable is each policy at each step, in each dataset (or in the one given)?
// $dataset = ""
// $limit = 50
MATCH (p:Policy)-[r:RELIABLE_IN]->(d:Dataset)
WHERE $dataset = '' OR d.name = $dataset
WITH p.name AS policy, coalesce(p.step, -1) AS at, d.name AS dataset, r
RETURN policy, CASE WHEN at >= 0 THEN at END AS step, dataset, r.reliability AS reliability, r.low AS low,
       r.high AS high, r.votes AS votes, r.judged AS judged
ORDER BY reliability DESC, policy, at, dataset
LIMIT $limit
