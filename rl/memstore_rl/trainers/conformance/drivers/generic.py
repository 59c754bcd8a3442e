"""Drives `memstore_rl.group_reward`, for trainers without a hook of their own. The completions are interleaved."""

from __future__ import annotations

from collections.abc import Sequence

from memstore_rl.trainers.conformance.driver import GroupCase, Outcome, in_environment
from memstore_rl.trainers.group_reward import group_reward
from memstore_rl.trainers.hook_settings import HookSettings


class Driver:
    """See the module's docstring."""

    trainer = "generic"
    may_refuse = True
    against = "memstore_rl.group_reward itself"

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch whose groups are interleaved."""
        return _score(groups, settings, evaluation=False)

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of an evaluation."""
        return _score(groups, settings, evaluation=True)


def _score(groups: Sequence[GroupCase], settings: HookSettings, *, evaluation: bool) -> Outcome:
    longest = max(len(case.completions) for case in groups)
    rows = [(case, at) for at in range(longest) for case in groups if at < len(case.completions)]
    with in_environment(settings):
        scored = group_reward(
            [case.query for case, _ in rows],
            [case.completions[at] for case, at in rows],
            groups=[case.name for case, _ in rows],
            golds=[case.gold for case, _ in rows],
            domains="math",
            evaluation=evaluation,
        )
    values = {case.name: [0.0] * len(case.completions) for case in groups}
    for (case, at), value in zip(rows, scored.values, strict=True):
        values[case.name][at] = value
    return Outcome(values, scored.metrics)
