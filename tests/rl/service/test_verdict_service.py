"""Mode verdict over the real service: budget, metrics, and verdicts that survive kill -9 and reach the next run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest

from memstore.errors import InputError, StoreFullError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.service.client import RewardClient, ServiceError
from memstore_rl.service.journal import Entry, Journal

Served = Callable[..., AbstractContextManager[str]]

# The recorder writes at the start and at the end only, so a kill leaves all rollouts in the journal.
PROGRAM = """
import sys
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.service.recorder import RecorderSchedule
from memstore_rl.service.serve import ServeOptions, serve
with Memory.open(sys.argv[1], create=True, embedder=HashEmbedder()) as memory:
    schedule, total = RecorderSchedule(interval_s=1000.0), int(sys.argv[2]) or None
    budget = VerifierBudget(calls=None if total else 1, total=total)
    options = ServeOptions(port=0, mode="verdict", verifier_budget=budget, schedule=schedule)
    serve(memory, options, on_ready=lambda endpoint: print(endpoint, flush=True))
"""


@contextmanager
def service(memory: Path, total: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address and the process of a service; it is killed at the end if it still runs."""
    command = [sys.executable, "-c", PROGRAM, str(memory), str(total)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert endpoint, process.communicate()[1]
        yield endpoint, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def group(answers: tuple[int, ...], *, run: str = "r", step: int | None = 1, gold: str | None = "2") -> Group:
    query = RewardQuery("what is 1 + 1?", dataset="sums", domain="math", gold=gold)
    return Group(query, [Rollout(response=f"#### {one}", run=run, step=step, policy="p") for one in answers])


def outcomes(endpoint: str, *groups: Group) -> list[list[tuple[str, float | None]]]:
    with RewardClient(endpoint) as client:
        return [[(one.source, one.value) for one in rewards] for rewards in client.score_groups(groups)]


def metric(endpoint: str, name: str) -> float:
    lines = httpx.get(f"{endpoint}/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def test_bought_verdicts_survive_a_kill_and_reach_the_next_run(tmp_path: Path) -> None:
    bought = ("ground_truth", 0.0)
    with service(tmp_path / "memory") as (endpoint, process):
        assert outcomes(endpoint, group((7, 7, 2))) == [[bought, bought, ("predicted", 0.4)]]
        assert metric(endpoint, "memstore_verifier_calls") == 1
        assert metric(endpoint, "memstore_verdicts_wrong") == 1
        assert metric(endpoint, "memstore_verdict_pairs_open") == 1
        process.kill()
        process.wait()
    with service(tmp_path / "memory") as (endpoint, process):
        assert outcomes(endpoint, group((7, 8, 8), step=2)) == [[("remembered", 0.0), bought, bought]]
        assert metric(endpoint, "memstore_verifier_calls") == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0
    with service(tmp_path / "memory") as (endpoint, process):
        known = [("remembered", 0.0), ("remembered", 0.0), ("ground_truth", 1.0)]
        assert outcomes(endpoint, group((7, 8, 2), run="next")) == [known]
        assert metric(endpoint, "memstore_verifier_calls") == 1
        assert metric(endpoint, "memstore_verdict_pairs_remembered") == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0
    with Memory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        verdicts = list(memory.cypher("MATCH (a:Answer) WHERE a.verdict IS NOT NULL RETURN a.value, a.verdict").rows)
        golds = list(memory.cypher("MATCH (q:Query) RETURN q.gold").rows)
    assert sorted(map(tuple, verdicts)) == [("2", 1.0), ("7", 0.0), ("8", 0.0)]
    assert [tuple(row) for row in golds] == [(None,)], "a bought verdict must not become a known gold answer"


@pytest.fixture
def scorer(request: pytest.FixtureRequest) -> Iterator[GroupScorer]:
    """The scorer that `served` serves, with or without a budget of one call a step."""
    budget = VerifierBudget(calls=1) if request.param else None
    with GroupScorer(None, mode="verdict" if request.param else "oracle", verifier_budget=budget) as made:
        yield made


@pytest.mark.parametrize("scorer", [True], indirect=True)
def test_requests_of_a_step_share_the_budget_of_the_service(served: Served) -> None:
    with served() as endpoint:
        first, second = outcomes(endpoint, group((7, 7, 2))), outcomes(endpoint, group((5, 5, 2)))
        assert [source for source, _ in first[0]] == ["ground_truth", "ground_truth", "predicted"]
        assert [source for source, _ in second[0]] == ["predicted"] * 3
        without_step = outcomes(endpoint, group((5, 5, 2), step=None))
        assert [source for source, _ in without_step[0]] == ["ground_truth", "ground_truth", "predicted"]


@pytest.mark.parametrize("scorer", [True], indirect=True)
def test_a_verdict_is_used_once_it_is_recorded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Journal, entries: list[Entry]) -> set[str]:
        raise StoreFullError("no space left")

    bought = ("ground_truth", 0.0)
    with served() as endpoint, RewardClient(endpoint) as client:
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "append", full)
            with pytest.raises(ServiceError, match="no space left"):
                client.score_group(group((7, 7, 2)))
        validation = client.score_group(group((7, 2)), record=False)
        assert [one.source for one in validation] == ["ground_truth", "predicted"]
        assert outcomes(endpoint, group((7, 2)))[0][0] == bought
        assert outcomes(endpoint, group((7, 2)))[0][0] == ("remembered", 0.0)


def test_the_total_counts_what_the_run_bought_before(tmp_path: Path) -> None:
    """Of four calls in all, a service that was killed has made two for the run, and one for another."""

    def sources(endpoint: str, name: str, run: str) -> list[str]:
        query = RewardQuery(f"what is {name}?", dataset="sums", domain="math", gold="2")
        rollouts = [Rollout(response=f"#### {one}", run=run, step=1, policy="p") for one in (7, 8)]
        with RewardClient(endpoint) as client:
            return [one.source for one in client.score_group(Group(query, rollouts))]

    bought, open_ = ["ground_truth"] * 2, ["predicted"] * 2
    with service(tmp_path / "memory", total=4) as (endpoint, process):
        assert sources(endpoint, "a", "r") == bought
        process.kill()
        process.wait()
    with service(tmp_path / "memory", total=4) as (endpoint, _):
        assert sources(endpoint, "b", "new") == bought
        assert sources(endpoint, "c", "r") == open_
        assert metric(endpoint, "memstore_verifier_calls") == 2
        assert sources(endpoint, "d", "new") == open_


@pytest.mark.parametrize("scorer", [False], indirect=True)
def test_a_request_for_the_mode_needs_a_budget_of_the_service(served: Served) -> None:
    asked = group((7, 2))
    with served() as endpoint, pytest.raises(InputError, match="mode verdict needs a budget of verifier calls"):
        outcomes(endpoint, Group(asked.query, asked.rollouts, mode="verdict"))
