"""Compares reward shapings for GRPO: the table of docs/rewards.md.

    python benchmarks/shaping.py FOLDER [--sets NAME ...] [--budget .2] [--seeds 3] [--queries 400] [--work FOLDER]

FOLDER holds one `.jsonl.gz` per set. Each set becomes a memory of `--queries` queries; a reward model sees the labels
in the budget and predicts the rollouts of all other queries. Each query is one group. A figure is the cosine, over
all rollouts, between the advantages of the true rewards and of the shaped predictions:

    grpo    both divided by the group's standard deviation, as in GRPO
    mean    both with the group's mean subtracted only (Dr. GRPO; verl: algorithm.norm_adv_by_std_in_grpo=False)
    mixed   GRPO advantages of the truth, mean-only advantages of the predictions
    flat    no cosine: the share of groups that are all right or all wrong in the predicted advantages (grpo, squared)
    gap     no cosine: mean reward of right rollouts less that of wrong ones, over groups whose majority is wrong
    silent  no cosine: the share of groups that get one reward
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

from memstore.types import FloatVector
from memstore_gnn.data.groups import groups_of
from memstore_gnn.data.labels import rewards_of, visible_rewards
from memstore_gnn.features.assemble import group_features
from memstore_gnn.scoring.score import score_memory
from memstore_gnn.verbs import train_snapshot
from memstore_rl.rewards.reward import SHAPINGS
from memstore_rl.rewards.shaping import DECIMALS, Predicted, ShapingSettings, shape

sys.path.insert(0, str(Path(__file__).parent))
from reward_quality import read_set, set_files, set_name

SETTINGS: dict[str, ShapingSettings] = {
    **{name: ShapingSettings(name) for name in SHAPINGS},
    **{f"probability, min_spread {spread}": ShapingSettings("probability", spread) for spread in (0.1, 0.2, 0.3)},
}
EPSILON = 1e-6
"""Constant that verl adds to a group's standard deviation."""


class UnlabelledGroup(NamedTuple):
    """The rollouts of one unlabelled query."""

    reward: FloatVector
    predicted: Predicted

    @property
    def majority_is_wrong(self) -> bool:
        """Whether the most frequent answer is wrong and another one is right."""
        _, cell, votes = np.unique(self.predicted.vote, return_inverse=True, return_counts=True)
        return bool(self.reward.max() > 0.5 and self.reward[cell == votes.argmax()].mean() < 0.5)


class Figures(NamedTuple):
    """Figures of one shaping on one set."""

    grpo: float
    mean: float
    mixed: float
    flat: float
    gap: float
    silent: float


def predicted_groups(path: Path, queries: int, work: Path, budget: float, seed: int) -> list[UnlabelledGroup]:
    """Return the groups of queries outside the budget, with predictions of a model trained on the budget."""
    snapshot = read_set(path, queries, work).snapshot
    result = train_snapshot(snapshot, budget=budget, seed=seed, device="cpu")
    visible = visible_rewards(snapshot, result.splits.labelled)
    scores = score_memory(result.model, snapshot, reward=visible)
    row = {name: position for position, name in enumerate(snapshot.thinkings["id"].to_pylist())}
    rows = np.array([row[name] for name in scores.id])
    truth, groups = rewards_of(snapshot)[rows], groups_of(snapshot)
    query, answer = groups.query_of[rows], groups.answer.cell[rows]
    probability = np.round(scores.probability, DECIMALS)
    alike = group_features(snapshot).groups
    by_votes = np.round(result.model.vote_model.probability(alike)[rows], DECIMALS)
    consensus = alike.answer.cell[rows]
    members = [np.flatnonzero(query == wanted) for wanted in np.flatnonzero(result.splits.report)]
    return [
        UnlabelledGroup(truth[m], Predicted(probability[m], answer[m], by_votes[m], consensus[m]))
        for m in members
        if len(m) > 1
    ]


def advantages(rewards: list[FloatVector], deviation: bool) -> FloatVector:
    """Return GRPO's advantages, float64 [rollouts]."""
    centred = [reward - reward.mean() for reward in rewards]
    if deviation:
        centred = [c / (reward.std(ddof=1) + EPSILON) for c, reward in zip(centred, rewards, strict=True)]
    return np.concatenate(centred)


def cosine(one: FloatVector, other: FloatVector) -> float:
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def figures(groups: list[UnlabelledGroup], rewards: list[FloatVector]) -> Figures:
    truth = [group.reward for group in groups]
    true, true_mean = advantages(truth, True), advantages(truth, False)
    made, made_mean = advantages(rewards, True), advantages(rewards, False)
    flat = np.concatenate([np.full(len(t), np.ptp(t) == 0) for t in truth])
    share = float(made[flat] @ made[flat] / (made @ made))
    gaps = [
        reward[group.reward > 0.5].mean() - reward[group.reward <= 0.5].mean()
        for group, reward in zip(groups, rewards, strict=True)
        if group.majority_is_wrong
    ]
    silent = float(np.mean([np.ptp(reward) == 0 for reward in rewards]))
    cosines = cosine(true, made), cosine(true_mean, made_mean), cosine(true, made_mean)
    return Figures(*cosines, share, float(np.mean(gaps)), silent)


def measure(seeds: list[list[UnlabelledGroup]]) -> dict[str, FloatVector]:
    """Return the mean figures of each setting over seeds, float64 [6]."""

    def one(groups: list[UnlabelledGroup], how: ShapingSettings) -> Figures:
        return figures(groups, [shape(group.predicted, how).value for group in groups])

    return {name: np.mean([one(groups, how) for groups in seeds], axis=0) for name, how in SETTINGS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", help="file names without .jsonl.gz; default: all")
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--work", type=Path, help="folder in which to keep the memories; default: a temporary one")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    print("| set | reward | grpo | mean | mixed | flat | gap | silent |\n|---|---|---|---|---|---|---|---|")
    total: dict[str, list[FloatVector]] = {name: [] for name in SETTINGS}
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for path in set_files(options.folder):
            if options.sets and set_name(path) not in options.sets:
                continue
            seeds = [
                predicted_groups(path, options.queries, work, options.budget, seed) for seed in range(options.seeds)
            ]
            for name, mean in measure(seeds).items():
                total[name].append(mean)
                print(f"| {set_name(path)} | {name} |", _cells(mean), "|", flush=True)
    for name, means in total.items():
        print(f"| **mean of {len(means)} sets** | {name} |", _cells(np.mean(means, axis=0)), "|")


def _cells(values: FloatVector) -> str:
    return " | ".join(f"{value:.3f}".replace("0.", ".", 1) for value in values)


if __name__ == "__main__":
    main()
