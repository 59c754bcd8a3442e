"""A group of programs has one budget of CPU time, and other groups do not wait for it. CPU seconds are counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from memstore.errors import SandboxError
from memstore.runtime.fair_queue import CpuAccount
from memstore_rl.sandbox import CallTests, Limits, Sandbox, ScriptTests
from memstore_rl.sandbox.box import BoxLost
from memstore_rl.sandbox.gold import Case

LIMITS = Limits(cpu_seconds=0.5, wall_seconds=600, group_cpu_seconds=1.2)
"""Wall-clock time that no machine needs, so that only CPU time counts."""
RIGHT = "def f(x): return 2 * x"
TESTS = CallTests(("f",), "assert f(2) == 4")
SPENT = "its group has used up 1.2 s of processor time"


class Ran(NamedTuple):
    """A program that ran, and what its group was charged for it."""

    program: str
    charged: float


class Counted(Sandbox):
    """Notes what ran; loses the boxes of some programs."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(pairs=1, limits=limits)
        self.ran: list[Ran] = []
        self.lose: tuple[str, ...] = ()

    def _run_once(self, program: str, tests: object, limits: Limits, account: CpuAccount) -> tuple[object, str]:
        before = account.seconds
        if any(name in program for name in self.lose):
            self.ran.append(Ran(program, 0.0))
            raise BoxLost("the box has ended")
        found = super()._run_once(program, tests, limits, account)  # type: ignore[arg-type]
        self.ran.append(Ran(program, account.seconds - before))
        return found  # type: ignore[return-value]


@pytest.fixture
def counted(sandbox: Sandbox) -> Iterator[Counted]:
    with Counted(LIMITS) as made:
        yield made


def bombs(count: int, name: str = "n") -> list[str]:
    return [f"{name} = {n}\ndef f(x):\n    while True: pass\n" for n in range(count)]


def test_a_group_of_bombs_costs_its_budget(counted: Counted) -> None:
    jobs = [(program, TESTS) for program in [*bombs(4), RIGHT]]
    outcomes = counted.run_all(jobs)
    assert [outcome.kind for outcome in outcomes] == ["timeout"] * 4 + ["passed"]
    assert all(outcome.detail == SPENT and outcome.of_group for outcome in outcomes[:4])
    assert 1.1 < sum(one.charged for one in counted.ran) < 1.5
    # Every program ran once before any ran for the second time.
    assert {one.program for one in counted.ran[:5]} == {program for program, _ in jobs}


def test_a_bomb_alone_gets_the_limit_of_a_program(counted: Counted) -> None:
    (outcome,) = counted.run_all([(bombs(1)[0], CallTests(("f",), "assert f(3) == 6"))])
    assert outcome.kind == "timeout"
    assert len(counted.ran) == 2


def test_a_slow_program_runs_again_with_more_time(counted: Counted) -> None:
    slow = "import time\ndef f(x):\n    while time.process_time() < 0.3: pass\n    return 2 * x\n"
    assert counted.run_all([(slow, TESTS)])[0].kind == "passed"
    assert len(counted.ran) == 2


def test_cases_of_a_script_share_its_limit(counted: Counted) -> None:
    program = "import time\nwhile time.process_time() < 0.1: pass\nprint(input())\n"
    tests = ScriptTests(tuple(Case(str(n), str(n)) for n in range(40)))
    (outcome,) = counted.run_all([(program, tests)])
    assert outcome.kind == "timeout"
    assert sum(one.charged for one in counted.ran) < 1.2


def test_waiting_is_charged() -> None:
    """A program that sleeps uses no CPU time, but its pair of boxes."""
    limits = Limits()
    assert limits.charge(0.1, 0.5) == 0.1
    assert limits.charge(0.1, 9.0) == 3.0
    assert limits.charge(4.0, 4.5) == 4.0
    assert limits.within(0.25).wall_seconds == 0.75


def test_another_group_does_not_wait_for_the_budgets_of_bombs(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four groups of bombs are queued before it; meanwhile they use less than the budget of one of them."""
    queued = threading.Event()
    take = counted._free._take

    def noted(account: CpuAccount) -> object:
        if counted._free.waiting >= 3:
            queued.set()
        return take(account)

    monkeypatch.setattr(counted._free, "_take", noted)
    groups = {name: CallTests(("f",), f"{name} = f(2)") for name in "abcd"}
    with ThreadPoolExecutor(4) as threads:
        running = [
            threads.submit(counted.run_all, [(bomb, tests) for bomb in bombs(4, name)])
            for name, tests in groups.items()
        ]
        assert queued.wait(300)
        before = len(counted.ran)
        assert [outcome.kind for outcome in counted.run_all([(RIGHT, TESTS)] * 2)] == ["passed"] * 2
        assert sum(one.charged for one in counted.ran[before:] if one.program != RIGHT) <= LIMITS.group_cpu_seconds
        for future in running:
            assert {outcome.kind for outcome in future.result()} == {"timeout"}


def test_program_that_ends_its_boxes_twice_is_lost_by_its_own_fault(counted: Counted) -> None:
    counted.lose = ("ends",)
    outcomes = counted.run_all([(f"{RIGHT}  # ends", TESTS), (RIGHT, TESTS)])
    assert [outcome.kind for outcome in outcomes] == ["lost", "passed"]
    assert outcomes[0].reward == 0.0
    assert len([one for one in counted.ran if "ends" in one.program]) == 2


def test_boxes_that_end_with_every_program_are_an_error(counted: Counted) -> None:
    counted.lose = ("def f",)
    with pytest.raises(SandboxError, match="free memory"):
        counted.run_all([(RIGHT, TESTS)])
