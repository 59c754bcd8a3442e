"""The embedders of `memstore.testing.doubles.embedder`, under the name that tests outside this project import."""

from memstore.testing.doubles.embedder import GivenEmbedder, HashEmbedder

__all__ = ["GivenEmbedder", "HashEmbedder"]
