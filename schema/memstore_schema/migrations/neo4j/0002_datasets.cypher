// A query is its text: the names that sources give it are IN edges. A policy at a step is a node, and an answer has the
// verdict of its labels. `memstore migrate` moves the data of schema 1.
CREATE CONSTRAINT memstore_dataset IF NOT EXISTS FOR (n:Dataset) REQUIRE (n.namespace, n.id) IS UNIQUE;
CREATE CONSTRAINT memstore_policy IF NOT EXISTS FOR (n:Policy) REQUIRE (n.namespace, n.id) IS UNIQUE;
