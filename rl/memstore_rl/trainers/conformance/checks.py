"""Checks that every hook passes, as functions: `memstore hook check` prints them, and the tests assert them.

groups        the service gets whole groups, one for each group of the trainer
order         each completion gets its own reward
sources       the trainer's metrics say where the rewards came from
evaluation    evaluation is scored by ground truth and not recorded
one query     two groups of one query stay two groups
short group   a short group is scored as short, or refused
gone          a step without the service raises, and no reward is made up
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from memstore.errors import MemstoreError
from memstore_rl.rewards.reward import SOURCES
from memstore_rl.service.client import RewardClient
from memstore_rl.trainers.conformance.driver import GroupCase, HookDriver, NotByHook, Outcome
from memstore_rl.trainers.conformance.service import Noted, NotingService
from memstore_rl.trainers.hook_settings import HookSettings, hook_settings

GROUP_SIZE = 4
_GONE_S = 0.2
"""Deadline of the step whose service is gone."""


class Finding(NamedTuple):
    """Result of one check."""

    what: str
    ok: bool
    says: str


class HookFault(Exception):
    """A check failed; the message says what the hook did."""


def _case(name: str, first: int, second: int, *, labelled: bool, shift: int = 0, size: int = GROUP_SIZE) -> GroupCase:
    """A group about a sum; its first completion is right."""
    answers = [first + second + shift + index for index in range(size)]
    texts = tuple(f"I add the two numbers. The answer is \\boxed{{{answer}}}." for answer in answers)
    return GroupCase(name, f"what is {first} + {second} ?", texts, str(first + second) if labelled else None)


LABELLED, UNLABELLED = _case("group-a", 2, 3, labelled=True), _case("group-b", 31, 12, labelled=False)
SAME_QUERY = (_case("group-c", 5, 8, labelled=False), _case("group-d", 5, 8, labelled=False, shift=1))
SHORT = _case("group-e", 7, 9, labelled=False, size=GROUP_SIZE - 1)
HELD_OUT = _case("group-f", 4, 4, labelled=True)


class Bench:
    """A driver at a service that notes what the hook sends."""

    def __init__(self, driver: HookDriver, service: NotingService) -> None:
        self.driver, self.service = driver, service

    def settings(self, **changes: object) -> HookSettings:
        """The settings of the hook."""
        given = {"endpoint": self.service.address, "group_size": GROUP_SIZE, "deadline_s": 60.0, "mean_only": True}
        return hook_settings({**given, **changes}, environment={})

    def train(self, *cases: GroupCase, **changes: object) -> tuple[Outcome, list[Noted]]:
        """A step of training, and the groups that the service got meanwhile."""
        before = len(self.service.noted)
        outcome = self.driver.train(cases, self.settings(**changes))
        return outcome, self.service.noted[before:]

    def evaluate(self, *cases: GroupCase) -> tuple[Outcome, list[Noted]]:
        """An evaluation, and the groups that the service got meanwhile."""
        before = len(self.service.noted)
        outcome = self.driver.evaluate(cases, self.settings())
        return outcome, self.service.noted[before:]


def groups_are_whole(bench: Bench) -> str:
    """The service gets one group for each group of the trainer, with all its completions."""
    _, noted = bench.train(LABELLED, UNLABELLED)
    if len(noted) != 2:
        raise HookFault(f"the service got {len(noted)} groups for 2")
    for case in (LABELLED, UNLABELLED):
        one = _noted_of(case, noted)
        if one.group.query.gold != case.gold:
            raise HookFault(f"the service got the gold answer {one.group.query.gold!r} for {case.gold!r}")
        if one.group.expected != GROUP_SIZE:
            raise HookFault(f"the service was told to expect {one.group.expected} completions, not {GROUP_SIZE}")
        if not one.record:
            raise HookFault("the service was told not to record a training group")
    return f"2 groups of {GROUP_SIZE} completions arrived whole"


def order_is_kept(bench: Bench) -> str:
    """Each completion gets the reward that the service gave it."""
    outcome, noted = bench.train(LABELLED, UNLABELLED)
    for case in (LABELLED, UNLABELLED):
        _check_values(case, outcome, noted)
    return f"{2 * GROUP_SIZE} rewards, each of its own completion"


def sources_are_metrics(bench: Bench) -> str:
    """The trainer's metrics have the share of each source."""
    outcome, noted = bench.train(LABELLED, UNLABELLED)
    sources = [reward.source for one in noted for reward in one.rewards]
    shares = {}
    for source in SOURCES:
        name, share = f"{source}_share", sources.count(source) / len(sources)
        found = outcome.metrics.get(name)
        if found is None or abs(found - share) > 1e-6:
            raise HookFault(f"the trainer's metric {name} is {found}, not {share:g}")
        shares[source] = share
    return ", ".join(f"{source} {share:g}" for source, share in shares.items() if share)


def evaluation_is_not_recorded(bench: Bench) -> str:
    """An evaluation is scored by ground truth only and is not recorded."""
    try:
        outcome, noted = bench.evaluate(HELD_OUT)
    except NotByHook as how:
        if bench.service.noted and bench.service.noted[-1].group.query.text == HELD_OUT.query:
            raise HookFault("the hook scored an evaluation that the trainer makes without it") from how
        return str(how)
    if not noted:
        raise HookFault("the service got no group of the evaluation")
    if any(one.record for one in noted):
        raise HookFault("the service was told to record an evaluation")
    if any(one.group.mode != "oracle" for one in noted):
        raise HookFault("an evaluation may be scored by the reward model; its groups need mode oracle")
    wanted = [1.0] + [0.0] * (GROUP_SIZE - 1)
    if list(outcome.values[HELD_OUT.name]) != wanted:
        raise HookFault(f"the evaluation's rewards are {list(outcome.values[HELD_OUT.name])}, not {wanted}")
    return "scored by ground truth, not recorded"


def groups_of_one_query_stay_apart(bench: Bench) -> str:
    """Two groups of one query are two groups, and their completions have different sample indices."""
    outcome, noted = bench.train(*SAME_QUERY)
    if len(noted) != 2:
        raise HookFault(f"the service got {len(noted)} groups for 2 of one query")
    for case in SAME_QUERY:
        _check_values(case, outcome, noted)
    indices = [rollout.sample_index for one in noted for rollout in one.group.rollouts]
    if None not in indices and len(set(indices)) != len(indices):
        raise HookFault(f"two completions of one query have the same sample index: {indices}")
    return "2 groups of one query stayed apart"


def short_groups_are_told(bench: Bench) -> str:
    """A short group is scored as short, or refused with a sentence; with the setting `refuse` it is refused."""
    refusal = _refusal(bench) if bench.driver.may_refuse else ""
    try:
        outcome, noted = bench.train(SHORT)
    except MemstoreError as error:
        return f"refused: {_sentence(error)}"
    [one] = noted
    if not all(reward.short for reward in one.rewards):
        raise HookFault("the service did not count a short group as short")
    _check_values(SHORT, outcome, noted)
    return "scored as short" + (f"; with short=refuse: {refusal}" if refusal else "")


def _refusal(bench: Bench) -> str:
    """The sentence with which a short group is refused."""
    before = len(bench.service.noted)
    try:
        bench.train(SHORT, short="refuse")
    except MemstoreError as error:
        if len(bench.service.noted) > before:
            raise HookFault("a short group was sent although short groups are refused") from error
        return _sentence(error)
    raise HookFault("a short group was scored although short groups are refused")


def failure_stops(bench: Bench) -> str:
    """Without the service a step raises."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    settings = bench.settings(endpoint=address, deadline_s=_GONE_S)
    try:
        outcome = bench.driver.train((LABELLED, UNLABELLED), settings)
    except Exception as error:
        sentence = _sentence(error)
        if "did not answer" not in sentence:
            raise HookFault(f"the step failed for another reason: {sentence}") from error
        return f"the step raises {type(error).__name__}, and no reward is made up"
    raise HookFault(f"the step went on without the service, with the rewards {dict(outcome.values)}")


CHECKS: dict[str, Callable[[Bench], str]] = {
    "groups": groups_are_whole,
    "order": order_is_kept,
    "sources": sources_are_metrics,
    "evaluation": evaluation_is_not_recorded,
    "one query": groups_of_one_query_stay_apart,
    "short group": short_groups_are_told,
    "gone": failure_stops,
}


def check_hook(driver: HookDriver, endpoint: str | None = None, token: str | None = None) -> list[Finding]:
    """Drive a hook as its trainer does; findings that are not ok come first.

    Args:
        endpoint: a reward service, which records nothing of the check; None: a small one of the check.
        token: of that service.

    Raises:
        InputError: the address or the token is invalid.
        ServiceError: the service does not respond.
    """
    if endpoint is None:
        with NotingService() as service:
            return _findings(Bench(driver, service))
    with RewardClient(endpoint, token=token, deadline_s=10.0) as client:
        client.info()
        with NotingService(client) as service:
            return _findings(Bench(driver, service))


def _findings(bench: Bench) -> list[Finding]:
    findings = []
    for what, check in CHECKS.items():
        try:
            findings.append(Finding(what, True, check(bench)))
        except HookFault as fault:
            findings.append(Finding(what, False, str(fault)))
        except Exception as error:
            findings.append(Finding(what, False, f"the hook raised {type(error).__name__}: {_sentence(error)}"))
    return sorted(findings, key=lambda finding: finding.ok)


def _noted_of(case: GroupCase, noted: Sequence[Noted]) -> Noted:
    """The noted group with exactly the completions of a case."""
    for one in noted:
        texts = sorted(str(rollout.response) for rollout in one.group.rollouts)
        if one.group.query.text == case.query and texts == sorted(case.completions):
            return one
    seen = [(one.group.query.text, len(one.group.rollouts)) for one in noted]
    raise HookFault(f"no group with the {len(case.completions)} completions of {case.query!r} arrived, only {seen}")


def _check_values(case: GroupCase, outcome: Outcome, noted: Sequence[Noted]) -> None:
    one = _noted_of(case, noted)
    given = {rollout.response: reward.value for rollout, reward in zip(one.group.rollouts, one.rewards, strict=True)}
    wanted, got = [given[text] for text in case.completions], list(outcome.values[case.name])
    if len(got) != len(wanted) or any(b is None or abs(a - b) > 1e-6 for a, b in zip(got, wanted, strict=True)):
        raise HookFault(f"the trainer got the rewards {got}, and the service gave {wanted}")


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
