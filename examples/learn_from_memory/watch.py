"""What is watched while a policy trains: its accuracy on held-out problems, and what the predicted rewards were worth.

The second is something that only a made-up task can tell: the answers of the unlabelled problems are known here.
Neither the memory nor the policy is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from task import Problem, final_answer, grade
from transformers import TrainerCallback
from words import WordTokenizer, accuracy

from memstore_gnn.metrics import advantage_soft, auc


class Watch(TrainerCallback):
    """Measures the policy every so many steps, and at the end."""

    def __init__(self, every: int, tokenizer: WordTokenizer, problems: Sequence[Problem]) -> None:
        self.curve: dict[int, float] = {}
        self._every, self._tokenizer, self._problems = every, tokenizer, problems

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            model.eval()
            self.curve[state.global_step] = accuracy(model, self._tokenizer, self._problems)
            model.train()


class Worth(NamedTuple):
    """What predictions were worth over some steps, beside the votes of the same groups."""

    steps: str
    rollouts: int
    right: float
    predicted: float
    """Mean probability; the share that is `right` is what it should be."""
    auc: float
    auc_votes: float
    advantage: float
    """Cosine with the true advantage, as GRPO feels it (`memstore_gnn.metrics.advantage_soft`)."""
    advantage_votes: float


class Ledger:
    """Holds the rewards of unlabelled problems against the truth, for each `every` steps."""

    def __init__(self, every: int, golds: Mapping[str, int]) -> None:
        self._every, self._golds = every, golds
        self._rows: dict[int, list[tuple[float, float, float, int]]] = {}
        self._groups = 0

    def add(self, step: int, keys: Sequence[str], said: Sequence[str], rewards: Sequence[float | None]) -> None:
        """Note the rewards of one step's unlabelled rollouts; `keys` name their problems."""
        votes = Counter((key, final_answer(text)) for key, text in zip(keys, said, strict=True))
        sizes = Counter(keys)
        group = {key: self._groups + number for number, key in enumerate(sizes)}
        self._groups += len(sizes)
        rows = self._rows.setdefault(step // self._every, [])
        for key, text, reward in zip(keys, said, rewards, strict=True):
            if reward is not None:
                share = votes[key, final_answer(text)] / sizes[key]
                rows.append((grade(text, self._golds[key]), reward, share, group[key]))

    def worth(self) -> list[Worth]:
        """The figures, in the order of the steps."""
        found = []
        for part, rows in sorted(self._rows.items()):
            true, said, share, group = (np.array(column) for column in zip(*rows, strict=True))
            steps = f"{part * self._every + 1}-{(part + 1) * self._every}"
            means = len(true), float(true.mean()), float(said.mean())
            order = auc(said, true), auc(share, true)
            advantages = advantage_soft(said, true, group), advantage_soft(share, true, group)
            found.append(Worth(steps, *means, *order, *advantages))
        return found
