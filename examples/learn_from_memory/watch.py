"""Measure a policy while it trains: its accuracy on held-out problems, and the quality of the predicted rewards.

The quality can be measured because the task is synthetic: the script knows the answers of the unlabelled problems. The
memory and the policy do not get them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from task import Problem, final_answer, grade
from transformers import TrainerCallback
from words import WordTokenizer, accuracy

from memstore_gnn.metrics import advantage_soft


class Watch(TrainerCallback):
    """Measures the accuracy every `every` steps and at the end."""

    def __init__(self, every: int, tokenizer: WordTokenizer, problems: Sequence[Problem]) -> None:
        self.curve: dict[int, float] = {}
        self._every, self._tokenizer, self._problems = every, tokenizer, problems

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            model.eval()
            self.curve[state.global_step] = accuracy(model, self._tokenizer, self._problems)
            model.train()


class Quality(NamedTuple):
    """Quality of the predictions over some steps, and of the votes of the same groups."""

    steps: str
    rollouts: int
    right: float
    advantage: float
    """Cosine of the rewards, less the mean of their group, with the true advantage (`memstore_gnn.metrics`)."""
    advantage_votes: float
    wrong: int
    """Groups whose most frequent answer is wrong and which hold a right one."""
    gap: float
    """Mean reward of right rollouts less that of wrong ones in these groups; above 0, rewards correct the policy."""


class Ledger:
    """Compares the rewards of unlabelled problems with the truth, for every `every` steps."""

    def __init__(self, every: int, golds: Mapping[str, int]) -> None:
        self._every, self._golds = every, golds
        self._rows: dict[int, list[tuple[float, float, float, int]]] = {}
        self._groups = 0

    def add(self, step: int, keys: Sequence[str], responses: Sequence[str], rewards: Sequence[float | None]) -> None:
        """Add the rewards of the unlabelled rollouts of a step; `keys` name their problems."""
        votes = Counter((key, final_answer(text)) for key, text in zip(keys, responses, strict=True))
        sizes = Counter(keys)
        group = {key: self._groups + number for number, key in enumerate(sizes)}
        self._groups += len(sizes)
        rows = self._rows.setdefault(step // self._every, [])
        for key, text, reward in zip(keys, responses, rewards, strict=True):
            if reward is not None:
                share = votes[key, final_answer(text)] / sizes[key]
                rows.append((grade(text, self._golds[key]), reward, share, group[key]))

    def quality(self) -> list[Quality]:
        """The figures in the order of the steps."""
        found = []
        for part, rows in sorted(self._rows.items()):
            true, predicted, share, group = (np.array(column) for column in zip(*rows, strict=True))
            steps = f"{part * self._every + 1}-{(part + 1) * self._every}"
            advantages = advantage_soft(predicted, true, group), advantage_soft(share, true, group)
            gaps = [
                float(predicted[rows][right].mean() - predicted[rows][~right].mean())
                for rows in map(np.flatnonzero, group == np.unique(group)[:, None])
                if (right := true[rows] > 0.5).any() and not right[share[rows] == share[rows].max()].any()
            ]
            gap = float(np.mean(gaps)) if gaps else float("nan")
            found.append(Quality(steps, len(true), float(true.mean()), *advantages, len(gaps), gap))
        return found
