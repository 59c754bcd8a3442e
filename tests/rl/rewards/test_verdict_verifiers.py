"""Mode verdict with verifiers that are slow, hang or fail: the run goes on, and nothing is charged twice."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from memstore.errors import MemstoreError
from memstore.types import Domain
from memstore_rl.rewards import verifier_queue
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.rewards.verdicts import MAX_ATTEMPTS, VerdictCounts
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.verifiers import Attempt, Verdict, Verifiers
from memstore_rl.verifiers.protocol import VerifierError


class Controlled(Verifiers):
    """Waits for a gate, then compares texts or fails."""

    def __init__(self) -> None:
        super().__init__({})
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None
        self.reward: float | None = None
        """Given in place of the comparison."""
        self.calls: list[list[str]] = []

    def check(self, domain: Domain, attempts: Sequence[Attempt]) -> list[Verdict]:
        self.calls.append([one.answer for one in attempts])
        assert self.gate.wait(200)
        if self.error is not None and any(one.answer != "1" for one in attempts):
            raise self.error
        return [Verdict(float(one.answer == one.gold) if self.reward is None else self.reward) for one in attempts]


@contextmanager
def opened(verifiers: Controlled, **budget: Any) -> Any:
    limits = VerifierBudget(**budget)
    with GroupScorer(None, mode="verdict", verifier_budget=limits, verifiers=verifiers) as scorer:
        yield scorer


def score(scorer: GroupScorer, answers: Sequence[int], step: int, name: str = "q") -> list[Reward]:
    query = RewardQuery(f"which number is {name}?", dataset="d", key=name, domain="math", gold="1")
    return scorer.score_groups([Group(query, [Rollout(response=f"#### {one}", step=step) for one in answers])])[0]


def counts_of(scorer: GroupScorer) -> VerdictCounts:
    counts = scorer.verdict_counts
    assert counts is not None
    return counts


def wait_for_verdicts(scorer: GroupScorer) -> None:
    assert scorer._verdict_mode is not None
    assert scorer._verdict_mode.buyer._queue.wait(200), "the verdicts do not arrive"


@pytest.mark.parametrize("error", [MemstoreError("no more processes"), ZeroDivisionError("a bug")])
def test_a_verifier_that_fails_is_asked_again_at_no_charge(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    verifiers = Controlled()
    verifiers.error = error
    with opened(verifiers, total=1) as scorer:
        first = score(scorer, [7, 7, 8], 1)
        assert [one.source for one in first] == ["predicted"] * 3
        assert len({one.value for one in first}) == 1
        assert "verifier failed on this answer" in (first[0].reason or "")
        assert "calls are spent" in (first[2].reason or "")
        assert [one.pair for one in first] == ["asked", None, "open"]
        verifiers.error = None
        second = score(scorer, [7, 8], 2)
        assert (second[0].source, second[0].value) == ("ground_truth", 0.0)
        counts = counts_of(scorer)
    assert (counts.calls, counts.failed, counts.wrong) == (1, 1, 1)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        f"a verifier of domain math failed ({error}), so the answer has no verdict and is asked again in a later step "
        "at no charge; 1 failures so far"
    ]
    assert verifiers.calls == [["7"], ["7"]]


@pytest.mark.parametrize("reward", [float("nan"), 1.5, -0.1])
def test_a_reward_outside_its_range_is_no_verdict(reward: float, caplog: pytest.LogCaptureFixture) -> None:
    verifiers = Controlled()
    verifiers.reward = reward
    with opened(verifiers, calls=1) as scorer:
        assert {one.source for one in score(scorer, [7, 7], 1)} == {"predicted"}
    (message,) = (record.getMessage() for record in caplog.records)
    assert f"verifier Controlled of domain math gave the reward {reward} for the query 'which number is q?'" in message


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("wait_s", [60.0, 0.0])
def test_a_verifier_that_ends_the_thread_fails_the_step(
    error: BaseException, wait_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    verifiers = Controlled()
    verifiers.error = error
    with opened(verifiers, calls=9, wait_s=wait_s) as scorer:
        if not wait_s:
            score(scorer, [7], 1)
            assert scorer._verdict_mode is not None
            thread = scorer._verdict_mode.buyer._queue._thread
            assert thread is not None
            thread.join(200)
        for step in (2, 3):
            with pytest.raises(VerifierError, match=f"ended the thread of the verdicts with {type(error).__name__}"):
                score(scorer, [8, 9], step)
    (record,) = caplog.records
    assert record.getMessage() == "the thread of the verdicts ended: no verdict can be bought any more"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_verifier_that_fails_again_and_again_is_left_alone() -> None:
    verifiers = Controlled()
    verifiers.error = MemstoreError("no")
    with opened(verifiers, calls=1) as scorer:
        for step in range(MAX_ATTEMPTS + 2):
            rewards = score(scorer, [7, 7], step)
        assert counts_of(scorer).calls == 1
    assert len(verifiers.calls) == MAX_ATTEMPTS
    assert f"failed {MAX_ATTEMPTS} times on this answer" in (rewards[0].reason or "")


def test_an_answer_whose_verifier_failed_is_asked_alone() -> None:
    verifiers = Controlled()
    verifiers.error = MemstoreError("no")
    with opened(verifiers, calls=9) as scorer:
        query = RewardQuery("write it", dataset="d", key="p", domain="code", gold="1")
        for step in (1, 2):
            group = Group(query, [Rollout(answer=text, step=step) for text in ("1", "x = 2")])
            (rewards,) = scorer.score_groups([group])
    assert verifiers.calls == [["1", "x = 2"], ["1"], ["x = 2"]]
    assert [one.source for one in rewards] == ["ground_truth", "predicted"]


def test_a_hanging_verifier_does_not_stop_the_run(caplog: pytest.LogCaptureFixture) -> None:
    verifiers = Controlled()
    verifiers.gate.clear()
    with opened(verifiers, calls=1, wait_s=0.05) as scorer:
        first = score(scorer, [7, 7, 8], 1)
        assert {one.source for one in first} == {"predicted"}
        assert "has not answered yet" in (first[0].reason or "")
        second = score(scorer, [7, 8, 8], 2, "another")
        assert "verifier does not answer" in (second[0].reason or "")
        assert counts_of(scorer).calls == 1
        verifiers.gate.set()
        wait_for_verdicts(scorer)
        third = score(scorer, [7, 8], 3)
        assert [(one.source, one.value) for one in third] == [("ground_truth", 0.0)] * 2
        assert counts_of(scorer).calls == 2
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("the verifier has not answered within 0.05 s; the training goes on without 1 verdicts")


def test_a_step_that_does_not_wait_uses_its_verdicts_in_the_next() -> None:
    verifiers = Controlled()
    verifiers.gate.clear()
    with opened(verifiers, calls=2, wait_s=0.0) as scorer:
        first = score(scorer, [7, 7, 8, 9], 1)
        assert [one.pair for one in first] == ["asked", None, "asked", "open"]
        assert {one.source for one in first} == {"predicted"}
        verifiers.gate.set()
        wait_for_verdicts(scorer)
        second = score(scorer, [7, 8, 1], 1)
        # Their labels are recorded with the first rewards that use them.
        assert [(one.source, one.value, one.pair) for one in second[:2]] == [("ground_truth", 0.0, "remembered")] * 2
        assert second[2].source == "predicted"
        third = score(scorer, [7, 8], 1)
        assert [one.source for one in third] == ["remembered"] * 2
        assert counts_of(scorer).calls == 2


def test_the_queue_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier_queue, "MAX_WAITING", 3)
    verifiers = Controlled()
    verifiers.gate.clear()
    with opened(verifiers, calls=5, wait_s=0.0) as scorer:
        for step in (1, 2, 3):
            score(scorer, [7, 8], step, f"q{step}")
        assert counts_of(scorer).calls == 3
        verifiers.gate.set()
        wait_for_verdicts(scorer)
        score(scorer, [7, 8], 4)
        assert counts_of(scorer).calls == 5


def test_threads_share_budget_and_verdicts() -> None:
    verifiers = Controlled()

    def ask(number: int) -> list[tuple[str, float | None]]:
        return [(one.source, one.value) for one in score(scorer, [7, 7, 8], 1, f"q{number % 8}")]

    with opened(verifiers, calls=5) as scorer, ThreadPoolExecutor(8) as threads:
        everything = list(threads.map(ask, range(64)))
        assert counts_of(scorer).calls == 5
    assert sum(map(len, verifiers.calls)) == 5
    for rewards in everything:
        assert all(value == 0.0 for source, value in rewards if source != "predicted")
        assert rewards[0][1] == rewards[1][1]


def test_closing_leaves_a_hanging_verifier_behind() -> None:
    verifiers = Controlled()
    verifiers.gate.clear()
    with opened(verifiers, calls=1, wait_s=0.0) as scorer:
        score(scorer, [7], 1)
    verifiers.gate.set()
