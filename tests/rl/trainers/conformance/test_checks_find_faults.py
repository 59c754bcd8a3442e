"""Each check fails on a hook that breaks what it checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from memstore_rl.service.client import ServiceGone
from memstore_rl.trainers.conformance.checks import CHECKS, Bench, HookFault, check_hook
from memstore_rl.trainers.conformance.driver import GroupCase, Outcome
from memstore_rl.trainers.conformance.drivers.generic import Driver
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.hook_settings import HookSettings


@pytest.fixture(scope="module")
def service() -> Iterator[NotingService]:
    with NotingService() as running:
        yield running


class PerCompletion(Driver):
    """Scores each completion alone."""

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        done = [
            (case, Driver.train(self, [case._replace(completions=(text,))], settings))
            for case in groups
            for text in case.completions
        ]
        values = {case.name: [one.values[case.name][0] for other, one in done if other is case] for case in groups}
        return Outcome(values, done[0][1].metrics)


class Reversed(Driver):
    """Returns the rewards of a group in reverse."""

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        outcome = super().train(groups, settings)
        return outcome._replace(values={name: [*values][::-1] for name, values in outcome.values.items()})


class Silent(Driver):
    """Logs no metrics."""

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        return super().train(groups, settings)._replace(metrics={})


class EvaluatesAsTraining(Driver):
    """Scores an evaluation as a step of training."""

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        return self.train(groups, settings)


class ByText(Driver):
    """Groups by the text of the query."""

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        merged: dict[str, list[GroupCase]] = {}
        for case in groups:
            merged.setdefault(case.query, []).append(case)
        cases = [
            GroupCase(query, query, tuple(text for one in same for text in one.completions), same[0].gold)
            for query, same in merged.items()
        ]
        scored = super().train(cases, settings.model_copy(update={"group_size": None}))
        values: dict[str, list[float]] = {}
        for query, same in merged.items():
            rest = iter(scored.values[query])
            values |= {one.name: [next(rest) for _ in one.completions] for one in same}
        return scored._replace(values=values)


class TakesShort(Driver):
    """Does not tell the service how many completions a group has."""

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        return super().train(groups, settings.model_copy(update={"group_size": None}))


class MakesUp(Driver):
    """Gives zeros when the service is gone."""

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        try:
            return super().train(groups, settings)
        except ServiceGone:
            return Outcome({case.name: [0.0] * len(case.completions) for case in groups}, {})


@pytest.mark.parametrize(
    ("driver", "check", "says"),
    [
        (PerCompletion, "groups", "the service got 8 groups for 2"),
        (PerCompletion, "order", "no group with the 4 completions of 'what is 2 \\+ 3 \\?' arrived"),
        (Reversed, "order", "the trainer got the rewards .* and the service gave"),
        (Silent, "sources", "the trainer's metric ground_truth_share is None, not 0.5"),
        (EvaluatesAsTraining, "evaluation", "the service was told to record an evaluation"),
        (ByText, "one query", "the service got 1 groups for 2 of one query"),
        (TakesShort, "groups", "the service was told to expect None completions, not 4"),
        (TakesShort, "short group", "a short group was scored although short groups are refused"),
        (MakesUp, "gone", "the step went on without the service, with the rewards"),
    ],
)
def test_fault_is_found(driver: Callable[[], Driver], check: str, says: str, service: NotingService) -> None:
    with pytest.raises(HookFault, match=says):
        CHECKS[check](Bench(driver(), service))


def test_findings_that_are_not_ok_come_first() -> None:
    findings = check_hook(Silent())
    assert [(finding.what, finding.ok) for finding in findings[:2]] == [("sources", False), ("groups", True)]
    assert {finding.what for finding in findings} == set(CHECKS)
