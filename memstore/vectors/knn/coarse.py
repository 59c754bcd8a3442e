"""Fast scores with a proven error: vectors at a low precision, and how far their products may be off.

With b the rounded row, r = x - b what the rounding took, and any two rows i, j:
    x_i . x_j - b_i . b_j  =  r_i . x_j + b_i . r_j,    at most  |r_i| |x_j| + |b_i| |r_j|   (Cauchy-Schwarz)
To this comes the error of adding D products in float32, at most D 2^-23 |b_i| |b_j| in whatever order they are added,
twice the textbook bound so that it also covers units that truncate, and the roundings of the scores themselves.
A tile of bf16 products is rounded to bf16 at the end. That rounding is monotone, so it is not part of the bound:
a product that was not below t before the rounding is not below the rounded t after it.
"""

from __future__ import annotations

import time
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from memstore.vectors.knn.threads import Threads, one_core_threads

_ROWS_AT_ONCE = 512
_PROBE = 512


class Coarse(NamedTuple):
    """All vectors at one precision."""

    x: torch.Tensor
    """bfloat16 or float32 [N, D]."""
    slack: torch.Tensor
    """float32 [N]: how far a product with this row is from the pair's score, at most, before a tile is rounded."""


def multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """out = left @ right.T."""
    if left.dtype == torch.float32:
        # numpy, because torch has a global switch that lowers the precision of float32 products.
        np.matmul(left.numpy(), right.numpy().T, out=out.numpy())
    else:
        torch.mm(left, right.T, out=out)


def coarsen(vectors: torch.Tensor, dtype: torch.dtype, threads: Threads) -> Coarse:
    """`vectors` (float32 [N, D]) at `dtype`, with their slack."""
    count, dim = vectors.shape
    x = vectors if dtype == torch.float32 else torch.empty_like(vectors, dtype=dtype)
    length = torch.empty(count, dtype=torch.float32)
    lost = torch.zeros(count, dtype=torch.float32)

    def measure(start: int) -> None:
        part = slice(start, start + _ROWS_AT_ONCE)
        length[part] = torch.linalg.vector_norm(vectors[part], dim=1)
        if dtype != torch.float32:
            x[part] = vectors[part]
            lost[part] = torch.linalg.vector_norm(vectors[part] - x[part], dim=1)

    list(threads.pool.map(measure, range(0, count, _ROWS_AT_ONCE)))
    longest, most_lost = length.max(), lost.max()
    # |b| <= |x| + |r|; the last factor covers the roundings of the lengths and of these lines.
    rounding = lost * longest + (length + lost) * most_lost
    adding = (dim + 8) * 2.0**-23 * (length + lost) * (longest + most_lost)
    return Coarse(x, (rounding + adding) * (1 + (dim + 8) * 2.0**-22) + 2.0**-100)


@cache
def fast_dtype(dim: int) -> torch.dtype:
    """bfloat16 where this machine multiplies it within the bound and clearly faster than float32, else float32.

    Timed rather than asked for: a processor without the instructions emulates them, slowly. The answer changes how
    long linking takes and nothing else.
    """
    rows = torch.randn(_PROBE, dim, generator=torch.Generator().manual_seed(0))
    rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    with one_core_threads() as threads:
        seconds = {dtype: _seconds(rows.to(dtype)) for dtype in (torch.bfloat16, torch.float32)}
        pays = seconds[torch.bfloat16] < 0.7 * seconds[torch.float32] and _within_bound(
            coarsen(rows, torch.bfloat16, threads)
        )
    return torch.bfloat16 if pays else torch.float32


def _seconds(rows: torch.Tensor) -> float:
    """Processor seconds of one product, the best of some: other processes are no part of it."""
    out = torch.empty(len(rows), len(rows), dtype=rows.dtype)
    best = float("inf")
    for _ in range(6):
        start = time.process_time()
        multiply(rows, rows, out)
        best = min(best, time.process_time() - start)
    return best


def _within_bound(coarse: Coarse) -> bool:
    """Whether bf16 products are added in float32 here, as `coarsen` takes for granted."""
    count, dim = coarse.x.shape
    out = torch.empty(count, count, dtype=torch.bfloat16)
    multiply(coarse.x, coarse.x, out)
    kept = coarse.x.double()
    length = torch.linalg.vector_norm(kept, dim=1)
    adding = (dim + 8) * 2.0**-23 * length[:, None] * length[None, :]
    exact = kept @ kept.T
    return bool(((out.double() - exact).abs() <= adding + (exact.abs() + adding) * 2.0**-8).all())
