"""Measures what a memory knows about new policies' rollouts, for sets of real rollouts.

    python benchmarks/seen_queries.py FOLDER [--sets NAME ...] [--queries 200] [--seeds 3] [--work FOLDER]

FOLDER has files of labelled rollouts, one a line; the files of gsm8k share their queries and are one set. Each set
becomes a memory with some of its queries. Situations and rules are those of `memstore evaluate --situations`
(`memstore_gnn.evaluation.situations`). The table has AUC, soft advantage and ECE of the new rollouts, and the gap on
groups whose majority is wrong, averaged over seeds and both orders of the halves. `--work` keeps the memories.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from memstore.embedding.protocol import Embedder
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.evaluation.situations import RULES, evaluate_situations, means


def sets_of(folder: Path) -> dict[str, list[Path]]:
    """Files by set: those of gsm8k together, every other file by itself."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.jsonl.gz")):
        name = path.name.removesuffix(".jsonl.gz")
        found.setdefault("gsm8k" if name.endswith("gsm8k") else name, []).append(path)
    return found


def read_set(files: list[Path], queries: int, work: Path, embedder: Embedder | None = None) -> Snapshot:
    """Draw some queries of a set, by their keys, and ingest their rollouts.

    Args:
        embedder: None uses the default.
    """
    rows = []
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows += [json.loads(line) for line in lines]
    keys = sorted({row["query_id"] for row in rows})
    chosen = set(np.random.default_rng(0).permutation(keys)[:queries].tolist())
    work.mkdir(parents=True, exist_ok=True)
    drawn = work / f"drawn-{queries}.jsonl"
    drawn.write_text("".join(json.dumps(row) + "\n" for row in rows if row["query_id"] in chosen), encoding="utf-8")
    with Memory.open(work / f"memory-{queries}", create=True, embedder=embedder) as memory:
        memory.ingest([drawn])
        return memory.snapshot()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work or Path(tempfile.mkdtemp())
    print("| set | situation | rule | AUC | advantage | ECE | gap |\n" + "|---" * 7 + "|")
    for name, files in sets_of(options.folder).items():
        if options.sets is None or name in options.sets:
            snapshot = read_set(files, options.queries, work / name)
            for row in means(evaluate_situations(snapshot, seeds=range(options.seeds), rules=tuple(RULES))):
                figures = f"{row.auc:.3f} | {row.advantage_soft:.3f} | {row.ece:.3f} | {row.gap:+.3f}"
                print(f"| {name} | {row.situation} | {row.rule} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
