"""Conformance suites of graph stores, vector stores and memories, with their small graphs and digests."""
