"""Measures how stored rollouts of a query should count for its groups: the table of docs/rewards.md.

    python benchmarks/service_groups.py [--memory FOLDER] [--budget .2] [--seeds 3]

Uses the sample's rollouts, which one run wrote at two steps. A model trained on the memory without the groups of the
later step scores these groups, on queries outside the budget: alone, together with the stored rollouts of their query
as one group, and with the votes of the stored rollouts weighted by the reliability of their policy. The stored ones are
four rollouts, each from the earlier checkpoint with the given probability, else from the later one: from an unchanged
policy to one that has nearly doubled its share of right answers. The metrics are those of `memstore_gnn.metrics`,
averaged over seeds.
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
from memstore.types import BoolVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.labels import rewards_of, visible_rewards
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import Visible
from memstore_gnn.metrics import advantage_soft, auc, brier
from memstore_gnn.scoring.other_policies import stored_votes
from memstore_gnn.verbs import train_snapshot

EARLIER, LATER = 2400, 6000
STORED = 4
"""Number of stored rollouts per query, and rollouts per group, if both are of the later step."""
MEMSTORE = str(Path(sys.executable).with_name("memstore"))


class Figures(NamedTuple):
    """Metrics of the predicted probabilities."""

    auc: float
    advantage: float
    brier: float


def compare(snapshot: Snapshot, scored: BoolVector, budget: float, seed: int) -> tuple[Figures, Figures, Figures]:
    """Return metrics of the scored rollouts (bool [T]) alone, as one group with the others, and by weighted votes."""
    stored = some_rollouts(snapshot, ~scored)
    result = train_snapshot(stored, budget=budget, seed=seed, device="cpu")
    seen = Visible(result.splits.labelled, visible_rewards(stored, result.splits.labelled))
    context, votes = result.model.label_context(stored, seen.reward), stored_votes(stored, verdicts_of(stored, seen))
    labelled = set(stored.queries["id"].to_numpy()[result.splits.labelled].tolist())
    query, ids = query_of_thinkings(snapshot), snapshot.queries["id"].to_pylist()
    unlabelled = np.array([ids[position] not in labelled for position in query])

    def figures(read: BoolVector, weighted: bool = False) -> Figures:
        groups = some_rollouts(snapshot, read)
        selected = scored[read]
        predicted = result.model.predict(groups, context)
        predicted = (votes.adjust(predicted, groups) if weighted else predicted)[selected]
        truth, group = rewards_of(groups)[selected], query_of_thinkings(groups)[selected]
        return Figures(auc(predicted, truth), advantage_soft(predicted, truth, group), brier(predicted, truth))

    return figures(unlabelled & scored), figures(unlabelled), figures(unlabelled & scored, weighted=True)


def mix(snapshot: Snapshot, changed: float, chance: np.random.Generator) -> tuple[Snapshot, BoolVector]:
    """Score half of the later rollouts; store the others, or earlier ones with probability `changed`."""
    step, sample = (snapshot.thinkings[name].to_numpy() for name in ("step", "sample_index"))
    query = query_of_thinkings(snapshot)
    scored = (step == LATER) & (sample >= STORED)
    stored = np.zeros(len(step), np.bool_)
    for position in range(snapshot.queries.num_rows):
        later = np.flatnonzero((query == position) & (step == LATER) & ~scored)
        earlier = np.flatnonzero((query == position) & (step == EARLIER))[:STORED]
        stored[np.where(chance.random(STORED) < changed, earlier, later)] = True
    kept = scored | stored
    return some_rollouts(snapshot, kept), scored[kept]


def row(name: str, snapshot: Snapshot, scored: BoolVector, budget: float, seeds: int) -> None:
    found = [compare(snapshot, scored, budget, seed) for seed in range(seeds)]
    by_rule = [np.mean([of_seed[rule] for of_seed in found], axis=0) for rule in range(3)]
    cells = [" / ".join(f"{value:.3f}" for value in metric) for metric in zip(*by_rule, strict=True)]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=Path, help="memory of `memstore demo`; created if absent")
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
    print("| stored, of the earlier policy | AUC alone / one group / weighted | advantage | Brier |\n|---|---|---|---|")
    chance = np.random.default_rng(0)
    for changed in (0.0, 0.25, 0.5, 0.75, 1.0):
        row(f"{changed:.0%} of 4", *mix(snapshot, changed, chance), options.budget, options.seeds)
    later = snapshot.thinkings["step"].to_numpy() == LATER
    row("all of 8", snapshot, later, options.budget, options.seeds)


if __name__ == "__main__":
    main()
