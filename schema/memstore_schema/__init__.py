"""Schema of the graph: columns, DDL and migrations per backend, named queries. Imports no other package."""
