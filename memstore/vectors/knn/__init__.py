"""SIMILAR_TO: each node's k nearest neighbours by cosine, exact and independent of the order of arrival.

`link_all` and `link_new` are pure numerics: vectors in, neighbour lists out. What is stored, and when, is decided
by the caller. Importing this package does not import torch.
"""

from memstore.vectors.knn.link import link_all, link_new
from memstore.vectors.knn.neighbours import Neighbours
from memstore.vectors.knn.settings import LinkSettings

__all__ = ["LinkSettings", "Neighbours", "link_all", "link_new"]
