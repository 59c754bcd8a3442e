"""Tools for authors and tests of store backends.

`doubles` are in-memory stores and deterministic embedders, `conformance` has the suites that every backend passes, and
`servers` starts private Neo4j and Milvus servers. `killed` calls functions in processes that are killed before a write.
"""
