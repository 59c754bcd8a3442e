"""What the gauge sees of a memory, and what it costs: figures of docs/gauge.md.

    python benchmarks/gauge.py [--seeds 3] [--budget .2] [--queries 400] [--hash]

The memory holds the sample's rollouts of its earlier step, labels of the budget only. The groups of the later step are
new, as in a training that goes on. Of labelled and of unlabelled queries, the table has the gap p - v of right less
wrong rollouts in the groups whose majority is wrong and in all mixed groups, with its 90 % interval: the gauge sees the
labelled queries, and the reward counts on the unlabelled ones. The cost is the CPU time to score a batch of 16 groups,
half of them labelled, with a gauge and without. `--hash` replaces MiniLM by hashes of texts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memstore.memory import Memory
from memstore.sample import sample_path
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.verbs import train_memory
from memstore_rl.rewards.gauge import GaugeSettings
from memstore_rl.rewards.gauge_reading import GaugeReading
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout

Rows = dict[str, list[dict[str, Any]]]
GROUPS, REPEATS = 16, 5
"""Groups of a batch, and batches that are timed."""


def rows_of(queries: int) -> tuple[Rows, Rows]:
    """The sample's rows by query, of the earlier and of the later step."""
    earlier: Rows = {}
    later: Rows = {}
    with gzip.open(sample_path(), "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["query_id"] in earlier or len(earlier) < queries:
                earlier.setdefault(row["query_id"], [])
                (earlier if row["step"] == 2400 else later).setdefault(row["query_id"], []).append(row)
    return earlier, later


def group_of(rows: Sequence[dict[str, Any]], *, labelled: bool, step: int = 1) -> Group:
    first = rows[0]
    gold = first["gold"] if labelled else None
    query = RewardQuery(first["query"], first["dataset"], first["query_id"], "math", gold, remember=False)
    return Group(query, [Rollout(response=row["response"], policy="new", run="r", step=step) for row in rows])


def judged(scorer: GroupScorer, groups: Sequence[Group]) -> GaugeReading:
    """The gauge's figures of some labelled groups alone."""
    fresh = GroupScorer(scorer.model)
    fresh.score_groups(groups)
    return fresh.gauge.reading()


def show(name: str, reading: GaugeReading) -> None:
    def figure(mean: float | None, low: float | None, high: float | None, groups: int) -> str:
        if mean is None or low is None or high is None:
            return "-"
        return f"{mean:+.3f} ({low:+.3f} to {high:+.3f}, {groups})"

    wrong = figure(reading.gap, reading.gap_low, reading.gap_high, reading.gap_groups)
    mixed = figure(reading.mixed_gap, reading.mixed_low, reading.mixed_high, reading.mixed_groups)
    print(f"| {name} | {wrong} | {mixed} | {reading.auc:.3f} |", flush=True)


def cost(scorer: GroupScorer, rows: Rows, share: float) -> float:
    """CPU seconds of a batch of groups with new texts, half of them labelled."""
    own = GroupScorer(scorer.model, gauge=GaugeSettings(share=share))
    chosen = list(rows.values())[:GROUPS]
    seconds = []
    for repeat in range(REPEATS + 1):
        fresh = [[{**row, "response": f"{row['response']} "} for row in of_query] for of_query in chosen]
        groups = [group_of(of_query, labelled=number % 2 == 0, step=repeat) for number, of_query in enumerate(fresh)]
        started = time.process_time()
        own.score_groups(groups)
        seconds.append(time.process_time() - started)
    return float(np.median(seconds[1:]))


def memories(options: argparse.Namespace, earlier: Rows, folder: Path) -> Iterator[tuple[int, Memory, set[str]]]:
    """For each seed, a memory with a trained model and the keys of its labelled queries."""
    embedder = HashEmbedder() if options.hash else None
    for seed in range(options.seeds):
        keys = sorted(earlier)
        labelled = set(np.random.default_rng(seed).permutation(keys)[: round(options.budget * len(keys))].tolist())
        lines = [
            json.dumps(
                {
                    **row,
                    "gold": row["gold"] if key in labelled else None,
                    "reward": row["reward"] if key in labelled else None,
                }
            )
            for key, rows in earlier.items()
            for row in rows
        ]
        (folder / f"{seed}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        with Memory.open(
            folder / f"memory-{seed}", create=True, **({"embedder": embedder} if embedder else {})
        ) as memory:
            memory.ingest([folder / f"{seed}.jsonl"])
            train_memory(memory, seed=seed, device="cpu")
            yield seed, memory, labelled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--hash", action="store_true", help="use hashes of texts instead of MiniLM")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    earlier, later = rows_of(options.queries)
    print("| seed, queries | gap, majority wrong | gap, mixed | AUC in groups |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for seed, memory, labelled in memories(options, earlier, Path(temporary)):
            with GroupScorer.open(memory) as scorer:
                for name, keys in (("labelled", labelled), ("unlabelled", set(later) - labelled)):
                    groups = [group_of(rows, labelled=True) for key, rows in later.items() if key in keys]
                    show(f"{seed}, {name}", judged(scorer, groups))
                if seed == 0:
                    with_gauge, without = cost(scorer, later, 1.0), cost(scorer, later, 0.0)
        print(f"\nCPU seconds of a batch of {GROUPS} groups: {with_gauge:.3f} with the gauge, {without:.3f} without")


if __name__ == "__main__":
    main()
