"""What each way from a probability to a reward is worth to GRPO: the table of docs/rewards.md.

    python benchmarks/shaping.py FOLDER [--sets NAME ...] [--budget .2] [--seeds 3] [--queries 400] [--work FOLDER]

FOLDER holds one `.jsonl.gz` a set. Each set becomes a memory with `--queries` queries; a reward model sees the labels
of the budget and predicts the rollouts of all other queries. Each query is one group. The figure is the cosine between
the advantages that GRPO makes of the true rewards and of the shaped predictions, over all rollouts: `grpo` divides by
the group's deviation, `mean` (Dr. GRPO) only takes the mean away. `flat` is the share of the groups whose true rewards
all are equal (there is nothing to learn) in the squared length of the predicted advantages.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from memstore.types import FloatVector, IntVector
from memstore_gnn.evaluate import rewards_of
from memstore_gnn.features.groups import groups_of
from memstore_gnn.score import score_memory
from memstore_gnn.train import train, visible_rewards
from memstore_rl.shaping import DECIMALS, SHAPINGS, shape

sys.path.insert(0, str(Path(__file__).parent))
from reward_quality import read_set, set_files, set_name

EPSILON = 1e-6
"""What verl adds to a group's deviation."""


class Group(NamedTuple):
    """The rollouts of one query that was not labelled."""

    reward: FloatVector
    probability: FloatVector
    answer: IntVector


class Figures(NamedTuple):
    """Of one shaping on one set."""

    grpo: float
    mean: float
    flat: float


def predicted_groups(path: Path, queries: int, work: Path, budget: float, seed: int) -> list[Group]:
    """The groups of the queries outside the budget, with what a model inside it says of them."""
    snapshot = read_set(path, queries, work).snapshot
    result = train(snapshot, budget=budget, seed=seed, device="cpu")
    visible = visible_rewards(snapshot, result.splits.labelled)
    scores = score_memory(result.model, snapshot, reward=visible)
    row = {name: position for position, name in enumerate(snapshot.thinkings["id"].to_pylist())}
    rows = np.array([row[name] for name in scores.id])
    truth, groups = rewards_of(snapshot)[rows], groups_of(snapshot)
    query, answer = groups.query_of[rows], groups.answer.cell[rows]
    probability = np.round(scores.probability, DECIMALS)
    members = [np.flatnonzero(query == wanted) for wanted in np.flatnonzero(result.splits.report)]
    return [Group(truth[m], probability[m], answer[m]) for m in members if len(m) > 1]


def advantages(rewards: list[FloatVector], deviation: bool) -> FloatVector:
    """GRPO's advantages of groups, float64 [rollouts]."""
    centred = [reward - reward.mean() for reward in rewards]
    if deviation:
        centred = [c / (reward.std(ddof=1) + EPSILON) for c, reward in zip(centred, rewards, strict=True)]
    return np.concatenate(centred)


def figures(groups: list[Group], rewards: list[FloatVector]) -> Figures:
    truth = [group.reward for group in groups]
    cosines = []
    for deviation in (True, False):
        true, made = advantages(truth, deviation), advantages(rewards, deviation)
        cosines.append(float(true @ made / np.sqrt((true @ true) * (made @ made))))
    flat = np.concatenate([np.full(len(t), np.ptp(t) == 0) for t in truth])
    made = advantages(rewards, True)
    return Figures(*cosines, float(made[flat] @ made[flat] / (made @ made)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", help="names of files, without .jsonl.gz; all by default")
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--work", type=Path, help="folder of memories, kept; a temporary one by default")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    print("| set | shaping | grpo | mean | flat |\n|---|---|---|---|---|")
    total: dict[str, list[FloatVector]] = {name: [] for name in SHAPINGS}
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for path in set_files(options.folder):
            if options.sets and set_name(path) not in options.sets:
                continue
            made: dict[str, list[Figures]] = {name: [] for name in SHAPINGS}
            for seed in range(options.seeds):
                groups = predicted_groups(path, options.queries, work, options.budget, seed)
                for name in SHAPINGS:
                    made[name].append(figures(groups, [shape(g.probability, g.answer, name) for g in groups]))
            for name in SHAPINGS:
                mean = np.mean(made[name], axis=0)
                total[name].append(mean)
                print(f"| {set_name(path)} | {name} |", " | ".join(f"{value:.3f}" for value in mean), "|", flush=True)
    for name in SHAPINGS:
        mean = np.mean(total[name], axis=0)
        print(f"| **mean of {len(total[name])} sets** | {name} |", " | ".join(f"{value:.3f}" for value in mean), "|")


if __name__ == "__main__":
    main()
