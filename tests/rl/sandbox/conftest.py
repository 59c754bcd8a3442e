"""Fixtures: a sandbox, and functions that run hostile programs in it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator

import pytest

from memstore.errors import SandboxError
from memstore_rl.sandbox import CallTests, Limits, Outcome, Sandbox

HIDDEN = CallTests(
    ("f",),
    """
MAGIC_EXPECTED = 7919

def check(candidate):
    assert candidate(3) == 7919, "first"
    assert candidate(4) == 104729, "second"
""",
    call="check",
)
"""Tests that only a program with the expected values can pass."""
_REPORT_TESTS = CallTests(("f",), "def check(candidate):\n    assert False, repr(candidate(3))\n", call="check")


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One pair of boxes. If none can be built, tests are skipped, or fail if CI=true."""
    try:
        built = Sandbox(pairs=1, limits=Limits(cpu_seconds=1, wall_seconds=20, memory_mb=512))
    except SandboxError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    with built:
        yield built


@pytest.fixture
def judge(sandbox: Sandbox) -> Callable[[str], Outcome]:
    """Run a program against hidden tests, f(3) == 7919 and f(4) == 104729, and return the outcome.

    Also checks that the program does not affect the verdict on the next one.
    """

    def run_hidden(program: str) -> Outcome:
        outcome = sandbox.run(textwrap.dedent(program), HIDDEN)
        assert sandbox.run("def f(x): return {3: 7919, 4: 104729}[x]", HIDDEN).kind == "passed"
        return outcome

    return run_hidden


@pytest.fixture
def report(sandbox: Sandbox) -> Callable[[str], str]:
    """Run a program and return what f(3) returns, or the name and text of the exception it raises."""

    def run_program(program: str) -> str:
        guarded = f"""
{textwrap.dedent(program)}
_unguarded = f
def f(x):
    try:
        return _unguarded(x)
    except BaseException as error:
        return f"{{type(error).__name__}}: {{error}}"
"""
        outcome = sandbox.run(guarded, _REPORT_TESTS)
        assert outcome.kind == "failed", outcome
        return outcome.detail.removeprefix("assertion: ")

    return run_program


@pytest.fixture
def judge_within_a_second(sandbox: Sandbox) -> Iterator[Callable[[str], Outcome]]:
    """Run a program with a wall-clock limit of one second, in its own sandbox."""
    with Sandbox(pairs=1, limits=Limits(wall_seconds=1.0)) as impatient:
        yield lambda program: impatient.run(textwrap.dedent(program), HIDDEN)
