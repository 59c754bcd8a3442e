"""The vectors: a protocol and its backends."""
