"""Should rollouts of an earlier step vote on a group: the table of docs/rewards.md.

    python benchmarks/service_siblings.py [--memory FOLDER] [--budget .2] [--seeds 3]

On the sample's rollouts, which one run wrote at two steps. Groups of the later step are scored on the queries outside
the budget by a model that was trained on the memory without them, once alone and once with what the memory holds of
the same query as siblings. For the table what it holds are four rollouts, each of the earlier checkpoint with the
given chance and else of the later one: from a policy that has not changed to one that has nearly doubled its share of
right answers. Figures are those of `memstore_gnn.metrics`, means over the seeds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.labels import rewards_of, visible_rewards
from memstore_gnn.metrics import advantage_soft, auc, brier
from memstore_gnn.verbs import train_snapshot

EARLIER, LATER = 2400, 6000
KEPT = 4
"""Rollouts of a query that the memory holds, and that a group has, where both are of the later step."""
MEMSTORE = str(Path(sys.executable).with_name("memstore"))


class Figures(NamedTuple):
    """How good the probabilities of some groups are."""

    auc: float
    advantage: float
    brier: float


def compared(snapshot: Snapshot, scored: BoolVector, budget: float, seed: int) -> tuple[Figures, Figures]:
    """The scored rollouts (bool [T]) alone, and with the others of their query."""
    stored = some_rollouts(snapshot, ~scored)
    result = train_snapshot(stored, budget=budget, seed=seed, device="cpu")
    context = result.model.label_context(stored, visible_rewards(stored, result.splits.labelled))
    labelled = set(stored.queries["id"].to_numpy()[result.splits.labelled].tolist())
    query, ids = query_of_thinkings(snapshot), snapshot.queries["id"].to_pylist()
    asked = np.array([ids[position] not in labelled for position in query])

    def figures(read: BoolVector) -> Figures:
        groups = some_rollouts(snapshot, read)
        wanted = scored[read]
        told = result.model.predict(groups, context)[wanted]
        truth, group = rewards_of(groups)[wanted], query_of_thinkings(groups)[wanted]
        return Figures(auc(told, truth), advantage_soft(told, truth, group), brier(told, truth))

    return figures(asked & scored), figures(asked)


def mixed(snapshot: Snapshot, changed: float, chance: np.random.Generator) -> tuple[Snapshot, BoolVector]:
    """Half of the later rollouts to be scored, the others stored, each replaced by an earlier one with this chance."""
    step, sample = (snapshot.thinkings[name].to_numpy() for name in ("step", "sample_index"))
    query = query_of_thinkings(snapshot)
    scored = (step == LATER) & (sample >= KEPT)
    stored = np.zeros(len(step), np.bool_)
    for position in range(snapshot.queries.num_rows):
        later = np.flatnonzero((query == position) & (step == LATER) & ~scored)
        earlier = np.flatnonzero((query == position) & (step == EARLIER))[:KEPT]
        stored[np.where(chance.random(KEPT) < changed, earlier, later)] = True
    kept = scored | stored
    return some_rollouts(snapshot, kept), scored[kept]


def row(name: str, snapshot: Snapshot, scored: BoolVector, budget: float, seeds: int) -> None:
    both: list[tuple[Figures, Figures]] = [compared(snapshot, scored, budget, seed) for seed in range(seeds)]
    alone, together = (np.mean([pair[side] for pair in both], axis=0) for side in (0, 1))
    cells: list[FloatVector] = [np.array([one, other]) for one, other in zip(alone, together, strict=True)]
    print(f"| {name} | " + " | ".join(f"{one:.3f} / {other:.3f}" for one, other in cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=Path, help="the memory of `memstore demo`; made if absent")
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.memory
        if folder is None:
            folder = Path(scratch) / "memory"
            subprocess.run([MEMSTORE, "demo", "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL)
        with Memory.open(folder) as memory:
            snapshot = memory.snapshot()
    print("| stored, of the earlier policy | AUC alone / together | advantage | Brier |\n|---|---|---|---|")
    chance = np.random.default_rng(0)
    for changed in (0.0, 0.25, 0.5, 0.75, 1.0):
        row(f"{changed:.0%} of 4", *mixed(snapshot, changed, chance), options.budget, options.seeds)
    later = snapshot.thinkings["step"].to_numpy() == LATER
    row("all of 8", snapshot, later, options.budget, options.seeds)


if __name__ == "__main__":
    main()
