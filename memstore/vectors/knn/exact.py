"""The exact search in two passes: all nodes in bf16 where the processor has it, then the crowded ones at float32."""

from __future__ import annotations

import logging

import numpy as np
import torch

from memstore.types import BoolVector
from memstore.vectors.knn.coarse import fast_dtype
from memstore.vectors.knn.sweep import Sweep
from memstore.vectors.knn.task import LinkTask
from memstore.vectors.knn.threads import Threads, one_core_threads
from memstore.vectors.knn.tiles import Pairs

logger = logging.getLogger(__name__)

_PRICE = 64
"""One exact score costs about as much as this many float32 products of a tile."""


def search_exactly(task: LinkTask, dtype: torch.dtype | None = None) -> int:
    """Complete the lists of `task`; returns how many nodes bf16 could not settle.

    Args:
        dtype: of the first pass; None for the faster one here. It does not change the lists.
    """
    dtype = dtype or fast_dtype(task.vectors.shape[1])
    with one_core_threads() as threads:
        crowded = _first_pass(task, dtype, threads)
        if crowded.any():
            _second_pass(task, crowded, threads)
    count = int(crowded.sum())
    logger.debug("linked %d nodes at %s, %d of them once more at float32", task.searching.sum(), dtype, count)
    return count


def _first_pass(task: LinkTask, dtype: torch.dtype, threads: Threads) -> BoolVector:
    """Link everyone; returns the crowded nodes, bool [N]."""

    def nodes(chosen: BoolVector) -> torch.Tensor:
        return torch.from_numpy(task.by_group(chosen))

    new, old = task.is_new, ~task.is_new
    copies = task.searching & ~task.offers
    offered = nodes(new & task.offers)
    held = nodes(old & task.offers)
    blocks = [
        Pairs(offered, offered, mutual=True),
        Pairs(offered, held, mutual=True),
        Pairs(nodes(new & copies), offered, mutual=False),
        Pairs(nodes(new & copies), held, mutual=False),
        Pairs(nodes(old & copies), offered, mutual=False),
    ]
    # Past so many exact scores it is cheaper to sweep the node's row again.
    patience = None if dtype == torch.float32 else max(64, len(task.vectors) // _PRICE)
    return Sweep(task, task.searching, dtype, patience, threads).run(blocks, task.done)


def _second_pass(task: LinkTask, crowded: BoolVector, threads: Threads) -> None:
    new, old = (torch.from_numpy(task.by_group(crowded & side)) for side in (task.is_new, ~task.is_new))
    everyone, added = (torch.from_numpy(task.by_group(task.offers & side)) for side in (np.True_, task.is_new))
    blocks = [Pairs(new, everyone, mutual=False), Pairs(old, added, mutual=False)]
    Sweep(task, crowded, torch.float32, None, threads).run(blocks, lambda share: None)
