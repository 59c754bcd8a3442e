"""The graph's schema: columns, DDL and migrations per backend, named queries, JSON schemas. Imports nothing of ours."""
