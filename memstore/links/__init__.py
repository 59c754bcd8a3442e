"""SIMILAR_TO: each node's k nearest neighbours by cosine, exact and independent of the order of arrival.

`link_all` and `link_new` are pure numerics: vectors in, neighbour lists out. What is stored, and when, is decided
by the caller. Importing this package does not import torch.
"""

from memstore.links.link import link_all, link_new
from memstore.links.neighbours import Neighbours
from memstore.links.settings import LinkSettings

__all__ = ["LinkSettings", "Neighbours", "link_all", "link_new"]
