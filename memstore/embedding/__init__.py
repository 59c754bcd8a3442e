"""Texts to vectors: the embedder's protocol, its fingerprint, MiniLM, and the cache by content."""
