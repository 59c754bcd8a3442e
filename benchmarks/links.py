"""How long linking takes, beside faiss on the same vectors.

    python benchmarks/links.py [--rows 8000 80000] [--repeat 3]

Rows are clustered unit vectors (384-d) in groups of 8, k = 5; one line more links a tenth as many queries, each in a
group of its own. faiss is asked for k + 8 and siblings are dropped from what it finds. Its exhaustive search runs on a
share of the rows and is scaled to all of them. Times are the best of `--repeat`; CPU seconds count all threads, and are
the ones to compare where other processes share the machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import torch

from memstore.vectors.knn import LinkSettings, Neighbours, link_all, link_new
from memstore.vectors.knn.blocked import link_exactly
from memstore.vectors.knn.task import LinkTask

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import DIMENSION, ROLLOUTS_A_QUERY, clustered

ROWS_A_CLUSTER = 400
SHARE = 2_000
NEW = 1_000
HOW = LinkSettings()


class Line(NamedTuple):
    """One line of the table."""

    what: str
    wall: float
    cpu: float
    recall: float
    note: str = ""


def measure(rows: int, repeat: int) -> Iterator[Line]:
    """All lines for one size."""
    rng = np.random.default_rng(0)
    x = clustered(rows, rows // ROWS_A_CLUSTER + 1, rng)
    group = rng.permutation(np.arange(rows) // ROLLOUTS_A_QUERY)
    queries = clustered(rows // 10, rows // 10 // ROWS_A_CLUSTER + 1, rng)
    share = rng.choice(rows, min(SHARE, rows), replace=False)
    flat, scale = _flat(x), rows / min(SHARE, rows)
    truth, wall, cpu = _best(lambda: _outsiders(flat, x, group, share), repeat)

    def line(what: str, work: Callable[[], np.ndarray]) -> Line:
        found, wall, cpu = _best(work, repeat)
        return Line(what, wall, cpu, _recall(found[share], truth))

    everyone, cells = np.arange(rows), LinkSettings(exact_up_to=0)
    yield line("memstore, exact", lambda: link_all(x, group, HOW).index)
    yield line("memstore, exact, float32 products", lambda: _at_float32(x, group))
    yield line("memstore, inverted file", lambda: link_all(x, group, cells).index)
    yield _addition(x, group, truth, share, repeat)
    _, *seconds = _best(lambda: link_all(queries, None, HOW), repeat)
    yield Line("memstore, exact: queries", *seconds, np.nan, f"{len(queries):,} rows")
    yield Line("faiss IndexFlatIP", wall * scale, cpu * scale, 1.0, f"the truth; {len(share):,} rows, scaled")
    yield line("faiss IndexIVFFlat", lambda: _outsiders(_inverted(x), x, group, everyone))


def _addition(x: np.ndarray, group: np.ndarray, truth: np.ndarray, share: np.ndarray, repeat: int) -> Line:
    is_new = np.zeros(len(x), dtype=np.bool_)
    is_new[np.random.default_rng(1).choice(len(x), NEW, replace=False)] = True
    here = np.flatnonzero(~is_new)
    earlier = link_all(x[here], group[here], HOW)
    old = Neighbours.none(len(x), HOW.k)
    old.index[here], old.score[here] = np.where(earlier.index >= 0, here[earlier.index], -1), earlier.score
    (lists, changed), wall, cpu = _best(lambda: link_new(x, group, is_new, old, HOW), repeat)
    note = f"{int(changed[here].sum()):,} old lists changed"
    return Line(f"memstore, exact: {NEW:,} new ones", wall, cpu, _recall(lists.index[share], truth), note)


def _at_float32(x: np.ndarray, group: np.ndarray) -> np.ndarray:
    nothing, everyone = Neighbours.none(len(x), HOW.k), np.ones(len(x), dtype=np.bool_)
    task = LinkTask.plan(x, group, everyone, nothing, HOW, lambda share: None)
    link_exactly(task, torch.float32)
    return task.finished().index


def _flat(x: np.ndarray) -> faiss.Index:
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(x)
    return index


def _inverted(x: np.ndarray) -> faiss.Index:
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(DIMENSION), DIMENSION, int(4 * len(x) ** 0.5), faiss.METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = 1
    index.train(x)
    index.add(x)
    index.nprobe = 16
    return index


def _outsiders(index: faiss.Index, x: np.ndarray, group: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The k best of other groups among the k + 8 best."""
    found = index.search(x[rows], HOW.k + ROLLOUTS_A_QUERY)[1]
    outside = (found >= 0) & (group[found] != group[rows][:, None])
    first = np.argsort(~outside, axis=1, kind="stable")[:, : HOW.k]
    return np.take_along_axis(np.where(outside, found, -1), first, axis=1)


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    hits = sum(len(np.intersect1d(a[a >= 0], b)) for a, b in zip(found, truth, strict=True))
    return hits / truth.size


def _best(work: Callable[[], object], repeat: int) -> tuple:
    """The result, and the least wall and CPU seconds."""
    walls, cpus = [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return result, min(walls), min(cpus)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[8_000, 80_000])
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    link_all(clustered(100, 2, np.random.default_rng(0)), None, HOW)
    for rows in arguments.rows:
        print(f"\n| {rows:,} rows, {torch.get_num_threads()} threads | wall s | CPU s | recall@{HOW.k} | |")
        print("|---|--:|--:|--:|---|")
        for what, wall, cpu, recall, note in measure(rows, arguments.repeat):
            shown = "" if np.isnan(recall) else f"{recall:.4f}"
            print(f"| {what} | {wall:.2f} | {cpu:.2f} | {shown} | {note} |", flush=True)


if __name__ == "__main__":
    main()
