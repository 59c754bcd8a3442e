"""Mode `paper` of benchmarks/policy_learning.py: the reward of the paper's network (MemReward, arXiv 2603.19310).

As the paper describes it: the network is trained once, on the start policy's rollouts of the labelled queries, with
vectors of all-MiniLM-L6-v2. New rollouts are attached to that graph, and an unlabelled rollout's reward is its
probability.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from policy_learning_study import SAMPLES, Row, Study

from memstore.embedding.minilm import load_embedder
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.baselines.paper import Paper
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_rl.rewards.reward import Group

VALIDATION = 0.2
"""Share of the labelled queries on which the best epoch is chosen."""


class PaperRewards:
    """Predicts the rewards of unlabelled groups with the paper's network."""

    def __init__(self, study: Study, labelled: Sequence[int], folder: Path) -> None:
        self._study, self._file = study, folder / "groups.jsonl"
        self._memory = Memory.open(folder / "memory", create=True, embedder=load_embedder(device="cpu"))
        self._remembered = [
            {**study.row(number, text, sample, 0), "reward": study.truth(number, text)}
            for number in labelled
            for sample, text in enumerate(study.begun["responses"][number])
        ]
        snapshot = self._read([])
        chosen = np.random.default_rng(study.seed).random(snapshot.queries.num_rows) < VALIDATION
        self._paper = Paper(embed=self._memory.embedder.embed)
        self._network = self._paper.fit(snapshot, rewards_of(snapshot), ~chosen, chosen, study.seed)

    def predict(self, groups: Sequence[tuple[int, Group]]) -> list[FloatVector]:
        """Probabilities of each group's rollouts, float64 [SAMPLES].

        Args:
            groups: number of the problem, and the group.
        """
        rows = [
            {**self._study.row(number, rollout.response or "", place * SAMPLES + sample, 1 + (rollout.step or 0))}
            for place, (number, group) in enumerate(groups)
            for sample, rollout in enumerate(group.rollouts)
        ]
        snapshot = self._read(rows)
        labelled = np.isfinite(rewards_of(snapshot))
        remembered = np.zeros(snapshot.queries.num_rows, np.bool_)
        remembered[query_of_thinkings(snapshot)[labelled]] = True
        probabilities = self._paper.predict(self._network, snapshot, remembered)
        place = snapshot.thinkings["sample_index"].to_numpy()
        new = np.flatnonzero(~labelled)
        return np.split(probabilities[new[np.argsort(place[new])]], len(groups))

    def _read(self, rows: list[Row]) -> Snapshot:
        self._file.write_text("".join(json.dumps(row) + "\n" for row in [*self._remembered, *rows]), encoding="utf-8")
        return self._memory.read_rollouts([self._file])
