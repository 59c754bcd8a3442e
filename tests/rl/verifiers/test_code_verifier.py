"""Verdicts on programs agree with the data sets, and unusable tests give no verdict instead of 0."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import SandboxError
from memstore.text.split import split_response
from memstore_rl.sandbox import Limits
from memstore_rl.sandbox.box import BoxLost
from memstore_rl.verifiers import Attempt, standard_verifiers
from memstore_rl.verifiers.code import CodeVerifier

QUERY = 'def add(a, b):\n    """Add."""\n'
GOLD = "def check(candidate):\n    assert candidate(1, 2) == 3\n"


@pytest.fixture(scope="module")
def verifier() -> Iterator[CodeVerifier]:
    try:
        made = CodeVerifier(limits=Limits(cpu_seconds=2))
    except SandboxError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield made
    made.close()


def test_programs_are_not_run_without_a_code_verifier() -> None:
    verifiers = standard_verifiers()
    verdict = verifiers.check("code", [Attempt(QUERY, GOLD, "    return a + b\n")])[0]
    assert verdict.reward is None
    assert verdict.reason is not None
    assert "programs are not run unless" in verdict.reason
    verifiers.close()


def test_code_verifier_judges_programs(verifier: CodeVerifier) -> None:
    verifiers = standard_verifiers(code=verifier)
    answers = ["    return a + b\n", "    return a - b\n", "", "no program at all", "def add(a, b): return a + b"]
    verdicts = verifiers.check("code", [Attempt(QUERY, GOLD, answer) for answer in answers])
    assert [verdict.reward for verdict in verdicts] == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert all(verdict.reason is None for verdict in verdicts)


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ("the usual", "cannot be read as tests"),
        ("def check(candidate):\n    pass\n", "the tests never call the program"),
        ("def check(candidate):\n    assert helper(candidate(1, 2)) == 3\n", "name 'helper' is not defined"),
        ("def check(candidate):\n    assert candidate(lambda: 1, 2) == 3\n", "pass an object of class function"),
    ],
)
def test_unusable_tests_give_no_verdict(verifier: CodeVerifier, gold: str, message: str) -> None:
    verdict = verifier.check([Attempt(QUERY, gold, "    return a + b\n")])[0]
    assert verdict.reward is None
    assert verdict.reason is not None
    assert message in verdict.reason


def test_verdicts_come_in_order(verifier: CodeVerifier) -> None:
    answers = [f"    return a + b + {n % 3}\n" for n in range(50)]
    verdicts = verifier.check([Attempt(QUERY, GOLD, answer) for answer in answers])
    assert [verdict.reward for verdict in verdicts] == [float(n % 3 == 0) for n in range(50)]


def test_object_that_equals_everything_gets_zero(verifier: CodeVerifier) -> None:
    answer = "class E:\n    def __eq__(self, other): return True\ndef add(a, b): return E()\n"
    assert verifier.check([Attempt(QUERY, GOLD, answer)])[0].reward == 0.0


def test_rewards_agree_with_the_data_sets(verifier: CodeVerifier, shared_data: Path) -> None:
    """Checks one rollout in four; docs/code_rewards.md has the figures for all of them."""
    rows = rollouts(shared_data / "raw" / "codet__humaneval.jsonl.gz")[::4]
    attempts = [Attempt(row["query"], row["gold"], split_response(row["response"], "code").answer) for row in rows]
    verdicts = verifier.check(attempts)
    misses = Counter(
        (row["query_id"], row["reward"], verdict)
        for row, verdict in zip(rows, verdicts, strict=True)
        if row["reward"] != verdict.reward
    )
    assert len(rows) > 900
    assert 1 - misses.total() / len(rows) >= 0.97, misses


def rollouts(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


NEST = "    value = 1\n    for _ in range({depth}):\n        value = [value]\n    return value\n"
ROUND = "def check(candidate):\n    value = candidate(1, 2)\n    assert candidate(value, value) == value\n"
BOMBS = {
    # What a program does, its answer, the tests: each is the program's fault, so the verdict is 0 and never missing.
    "endless": ("    while True: pass\n", GOLD, "timeout"),
    "work inside C": ("    return sum(range(10**12))\n", GOLD, "timeout"),
    "too deep": (NEST.format(depth=150), GOLD, "opaque"),
    "too deep when the tests pass it back": (NEST.format(depth=100), ROUND, "opaque"),
    "an object": ("    return object()\n", GOLD, "opaque"),
    # Which of its limits it reaches first depends on the speed of the machine.
    "a shared list": ("    a = []\n    for _ in range(60): a = [a, a]\n    return a\n", GOLD, "opaque|timeout"),
}


@pytest.mark.parametrize(("answer", "gold", "kind"), BOMBS.values(), ids=BOMBS.keys())
def test_program_that_cannot_be_judged_is_wrong(verifier: CodeVerifier, answer: str, gold: str, kind: str) -> None:
    verdict = verifier.check([Attempt(QUERY, gold, answer)])[0]
    assert verdict.reward == 0.0
    assert verdict.reason is not None
    assert re.search(kind, verdict.reason)


def test_tests_that_pass_a_deep_value_of_their_own_give_no_verdict(verifier: CodeVerifier) -> None:
    # A near miss: the program returned nothing large, so the fault is the tests'.
    gold = (
        "def check(candidate):\n    assert candidate(1, 2) == 3\n    value = 1\n    for _ in range(150):\n"
        "        value = [value]\n    candidate(value, 1)\n"
    )
    assert verifier.check([Attempt(QUERY, gold, "    return a + b\n")])[0].reward is None


def test_copies_of_a_program_run_once(verifier: CodeVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    run = verifier._sandbox._run_once

    def counted(program: str, *others: Any) -> Any:
        runs.append(program)
        return run(program, *others)

    monkeypatch.setattr(verifier._sandbox, "_run_once", counted)
    attempts = [Attempt(QUERY, GOLD, "    return a + b + 4711\n")] * 8
    for _ in range(3):
        assert [verdict.reward for verdict in verifier.check(attempts)] == [0.0] * 8
    assert len(runs) == 1


def test_program_that_ends_its_sandbox_is_wrong_and_stays_so(
    verifier: CodeVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run = verifier._sandbox._run_once

    def lose(program: str, *others: Any) -> Any:
        ran.append(program)
        if "ends" in program:
            raise BoxLost("the box has ended")
        return run(program, *others)

    monkeypatch.setattr(verifier._sandbox, "_run_once", lose)
    attempts = [Attempt(QUERY, GOLD, f"    return a + b  {comment}\n") for comment in ("# ends", "# stays")]
    first = verifier.check(attempts)
    assert [verdict.reward for verdict in first] == [0.0, 1.0]
    assert "could not be judged and is wrong (lost)" in (first[0].reason or "")
    before = len(ran)
    assert verifier.check(attempts) == first
    assert len(ran) == before


def test_verdicts_of_a_spent_budget_are_kept_for_their_group(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = CodeVerifier(limits=Limits(cpu_seconds=1, wall_seconds=600, group_cpu_seconds=0.5), pairs=1)
    try:
        bombs = [Attempt(QUERY, GOLD, f"    while True: {n}\n") for n in range(4)]
        first = verifier.check(bombs)
        assert [verdict.reward for verdict in first] == [0.0] * 4
        assert all("its group has used up 0.5 s" in (verdict.reason or "") for verdict in first)
        monkeypatch.setattr(verifier._sandbox, "_run_once", None)
        assert verifier.check(bombs[::-1]) == first
    finally:
        verifier.close()
