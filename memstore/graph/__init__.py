"""The graph: a protocol and its backends."""
