"""Nearest neighbours by cosine: the SIMILAR_TO links of all nodes, and the search among a set of candidates.

`link_all` and `link_new` map vectors to neighbour lists, independent of the order of arrival. `nearest` finds the
neighbours of a few queries. Nothing here reads or writes a store, and importing this package does not import torch.
"""

from memstore.vectors.knn.link import link_all, link_new
from memstore.vectors.knn.neighbours import Neighbours
from memstore.vectors.knn.search import Found, nearest
from memstore.vectors.knn.settings import LinkSettings

__all__ = ["Found", "LinkSettings", "Neighbours", "link_all", "link_new", "nearest"]
