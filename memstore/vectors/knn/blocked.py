"""Exact neighbour lists of all nodes: fast blocked products select candidates, exact scores rank them.

For each node the k-th highest fast score, less its error, bounds the score of the k-th neighbour from below. A pair
whose fast score is below that bound by more than its own error cannot be in the list; the others are re-scored exactly.

Error of a fast score. With b the rounded row and r = x - b, Cauchy-Schwarz gives
    |x_i . x_j - b_i . b_j|  =  |r_i . x_j + b_i . r_j|  <=  |r_i| |x_j| + |b_i| |r_j|.
Adding D products in float32 loses at most D 2^-23 |b_i| |b_j|, twice the textbook bound, in whatever order they are
added. Rounding a product to bfloat16 loses at most 2^-8 of it.

On a GPU the products are bfloat16 with sums in float32. Exact scores, and products in float32, are always the CPU's, so
that the lists do not depend on the device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

from memstore.errors import InputError
from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn.score import pair_scores
from memstore.vectors.knn.task import LinkTask

logger = logging.getLogger(__name__)

_BLOCK_SCORES = 1 << 25
"""Fast scores of one block: 64 MB in bfloat16."""
_FOLD = 32
"""Columns whose maximum is taken first: a block is searched through one 32nd of its size."""
_PAIR_COST = 64
"""One exact score takes about as long as so many fast float32 products."""


def adding_error(dim: int) -> float:
    """Bound on what adding the float32 products of two rows loses, divided by the product of their lengths."""
    return (dim + 8) * 2.0**-23


class FastVectors:
    """Vectors at the precision of the fast products, with their error."""

    def __init__(self, vectors: FloatMatrix, dtype: torch.dtype, device: str = "cpu") -> None:
        """
        Args:
            vectors: float32 [N, D].
            dtype: bfloat16 or float32.
            device: where products in bfloat16 are computed; those in float32 are computed by the CPU.
        """
        exact = torch.from_numpy(vectors)
        rounded = exact.to(dtype)
        self.x = rounded if dtype == torch.float32 else rounded.to(device)
        length = torch.linalg.vector_norm(exact, dim=1)
        lost = torch.linalg.vector_norm(exact - rounded, dim=1) if dtype != torch.float32 else torch.zeros_like(length)
        kept, longest = length + lost, (length + lost).max()
        adding = adding_error(vectors.shape[1]) * kept * longest
        rounding = 2.0**-8 * kept * longest if dtype != torch.float32 else 0.0
        # The last factor covers the rounding of these lines.
        self.error = (lost * longest + kept * lost.max() + adding + rounding) * (1 + 2.0**-10) + 2.0**-100
        """float32 [N]: how far a fast score with this row is from the exact one, at most."""

    def scores(self, rows: IntVector, columns: torch.Tensor) -> torch.Tensor:
        """Fast scores [R, C] of nodes `rows` with the vectors `columns` [C, D], on the device of `x`."""
        left = self.x[torch.from_numpy(rows)]
        if self.x.dtype == torch.float32:
            # numpy, because torch has a global switch that lowers the precision of float32 products.
            return torch.from_numpy(left.numpy() @ columns.numpy().T)
        return left @ columns.T


def link_exactly(task: LinkTask, dtype: torch.dtype | None = None) -> int:
    """Complete the lists of `task` exactly.

    Args:
        dtype: precision of the fast products; None for the faster one of this machine. It does not change the lists.

    Returns:
        How many nodes had so many candidates at bfloat16 that they were searched again at float32.

    Raises:
        InputError: torch has no such device here, or its memory does not suffice.
    """
    device = _checked(task.device)
    with _float32_sums(device):
        try:
            return _link(task, dtype or fast_dtype(task.vectors.shape[1], device), device)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the GPU ran out of memory while linking {len(task.vectors):,} nodes; free some of it, or set "
                "MEMSTORE_DEVICE=cpu"
            ) from error


def _checked(device: str) -> str:
    """The device, if torch has it here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"torch has no device {device!r} here; use cpu") from error
    return device


@contextmanager
def _float32_sums(device: str) -> Iterator[None]:
    """Keep a GPU from adding parts of a bfloat16 product in bfloat16, which the error bound does not cover."""
    if device == "cpu":
        yield
        return
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


def _link(task: LinkTask, dtype: torch.dtype, device: str) -> int:
    new, old = (task.by_group(task.searching & side) for side in (task.is_new, ~task.is_new))
    offered, added = task.by_group(task.offers), task.by_group(task.offers & task.is_new)
    work = len(new) * len(offered) + len(old) * len(added)
    done, crowded = 0, 0
    for nodes, others in ((new, offered), (old, added)):
        left: list[IntVector] = []
        limit = None if dtype == torch.float32 else max(64, len(others) // _PAIR_COST)
        for count, again in _search(task, FastVectors(task.vectors, dtype, device), nodes, others, limit):
            done += count * len(others)
            left.append(again)
            task.done(done / work)
        rest = np.concatenate([np.empty(0, np.int64), *left])
        if len(rest):
            list(_search(task, FastVectors(task.vectors, torch.float32), rest, others, None))
        crowded += len(rest)
    logger.debug("linked %d nodes on %s at %s, %d again at float32", len(new) + len(old), device, dtype, crowded)
    return crowded


def _search(
    task: LinkTask, fast: FastVectors, nodes: IntVector, others: IntVector, limit: int | None
) -> Iterator[tuple[int, IntVector]]:
    """Offer each node its neighbours among `others`, a block of nodes at a time.

    Args:
        nodes: int64 [R], in the order of groups.
        others: int64 [C], in the order of groups.
        limit: candidates of a node above which it is left out; None for no limit.

    Yields:
        The number of nodes of the block, and those of them that were left out.
    """
    if not len(nodes) or not len(others):
        return
    width = -(-len(others) // _FOLD) * _FOLD
    columns = torch.zeros(width, fast.x.shape[1], dtype=fast.x.dtype, device=fast.x.device)
    columns[: len(others)] = fast.x[torch.from_numpy(others)]
    size = min(max(_BLOCK_SCORES // width, 32), 2048)
    for start in range(0, len(nodes), size):
        block = nodes[start : start + size]
        crowded = offer_block(task, fast, block, others, columns, _FOLD, limit)
        yield len(block), block[crowded]


def offer_block(
    task: LinkTask,
    fast: FastVectors,
    block: IntVector,
    others: IntVector,
    columns: torch.Tensor,
    fold: int,
    limit: int | None = None,
) -> BoolVector:
    """Offer each node of a block its neighbours among `others`.

    Args:
        others: int64 [C], in the order of groups.
        columns: fast vectors of `others` [C', D], filled up to a multiple of `fold` with zeros.
        fold: columns whose maximum is taken first.
        limit: candidates of a node above which it is left out; None for no limit.

    Returns:
        bool [len(block)]: the nodes that were left out.
    """
    score = fast.scores(block, columns)
    score[:, len(others) :] = -torch.inf
    _mask_groups(score, task.group[block], task.group[others])
    row, column = _candidates(task, fast, block, score, fold)
    crowded = np.zeros(len(block), np.bool_)
    if limit is not None:
        crowded = np.bincount(row, minlength=len(block)) > limit
        row, column = row[~crowded[row]], column[~crowded[row]]
    node, other = block[row], others[column]
    exact = pair_scores(task.vectors, node, other)
    valid = exact >= np.float32(task.settings.floor)
    task.lists.offer(node[valid], other[valid], exact[valid])
    return crowded


def _mask_groups(score: torch.Tensor, rows: np.ndarray, columns: np.ndarray) -> None:
    """Set pairs of one group to -inf; `columns` (int32 [C]) are sorted, so a group is a range of them."""
    first, last = np.searchsorted(columns, rows, "left"), np.searchsorted(columns, rows, "right")
    count = last - first
    row = np.repeat(np.arange(len(rows)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    score[torch.from_numpy(row), torch.from_numpy(np.repeat(first, count) + within)] = -torch.inf


def _candidates(
    task: LinkTask, fast: FastVectors, block: IntVector, score: torch.Tensor, fold: int
) -> tuple[IntVector, IntVector]:
    """Row and column of each pair of a block of fast scores that may be in the row's list."""
    k = task.settings.k
    # Column c of `peaks` is the maximum over the columns c, c + C/fold, c + 2 C/fold, ...
    folded = torch.unflatten(score, 1, (fold, -1))
    peaks = folded.amax(1).float()
    error = fast.error[torch.from_numpy(block)].to(score.device)
    lower = torch.from_numpy(np.maximum(task.lists.score[block, -1], np.float32(task.settings.floor))).to(score.device)
    if peaks.shape[1] >= k:
        # The peaks belong to different pairs, so the k-th highest of them bounds the k-th highest score.
        lower = torch.maximum(lower, peaks.topk(k, dim=1).values[:, -1] - error)
    threshold = lower - error
    row, peak = torch.nonzero(peaks >= threshold[:, None], as_tuple=True)
    hit, layer = torch.nonzero(folded[row, :, peak].float() >= threshold[row, None], as_tuple=True)
    found = row[hit], peak[hit] + layer * peaks.shape[1]
    # Rows and columns that were filled up have the score -inf, which a floor never lets through.
    return found[0].cpu().numpy(), found[1].cpu().numpy()


@cache
def fast_dtype(dim: int, device: str = "cpu") -> torch.dtype:
    """bfloat16 where the device multiplies it within the error bound and clearly faster than float32, else float32.

    Measured on a CPU, because a processor without the instructions emulates them slowly. On a GPU only the error is.
    It changes the time of linking only.
    """
    rows = torch.randn(512, dim, generator=torch.Generator().manual_seed(0))
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    every = np.arange(len(rows))
    seconds = {}
    for dtype in (torch.bfloat16, torch.float32):
        fast = FastVectors(rows.numpy(), dtype, device)
        times = []
        for _ in range(6):
            start = time.process_time()
            scores = fast.scores(every, fast.x)
            times.append(time.process_time() - start)
        seconds[dtype] = min(times)
        if bool(((scores.cpu().double() - rows.double() @ rows.double().T).abs() > fast.error[:, None]).any()):
            if device != "cpu":
                logger.warning("products of bfloat16 on %s exceed their error bound; linking on the CPU", device)
            return torch.float32
    if device != "cpu":
        return torch.bfloat16
    return torch.bfloat16 if seconds[torch.bfloat16] < 0.7 * seconds[torch.float32] else torch.float32
