"""A sandbox for the tests, and two ways to set a hostile program loose in it."""

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
"""Nobody who does not know them can pass them."""
_TELL = CallTests(("f",), "def check(candidate):\n    assert False, repr(candidate(3))\n", call="check")


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One pair of boxes. Where none can be built the test is skipped; where CI=true it fails."""
    try:
        built = Sandbox(pairs=1, limits=Limits(cpu_seconds=1, wall_seconds=20, memory_mb=512))
    except SandboxError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    with built:
        yield built


@pytest.fixture
def judged(sandbox: Sandbox) -> Callable[[str], Outcome]:
    """What a program comes to whose hidden tests want f(3) == 7919 and f(4) == 104729.

    Whatever it does, the next program is judged as if it had not been there.
    """

    def judge(program: str) -> Outcome:
        outcome = sandbox.run(textwrap.dedent(program), HIDDEN)
        assert sandbox.run("def f(x): return {3: 7919, 4: 104729}[x]", HIDDEN).kind == "passed"
        return outcome

    return judge


@pytest.fixture
def told(sandbox: Sandbox) -> Callable[[str], str]:
    """What f(3) of a program finds out; the exception's name and text where it raises one."""

    def tell(program: str) -> str:
        guarded = f"""
{textwrap.dedent(program)}
_unguarded = f
def f(x):
    try:
        return _unguarded(x)
    except BaseException as error:
        return f"{{type(error).__name__}}: {{error}}"
"""
        outcome = sandbox.run(guarded, _TELL)
        assert outcome.kind == "failed", outcome
        return outcome.detail.removeprefix("assertion: ")

    return tell


@pytest.fixture
def sandbox_of_a_second(sandbox: Sandbox) -> Iterator[Callable[[str], Outcome]]:
    """What a program comes to that is given one second by the clock; the sandbox is one of its own."""
    with Sandbox(pairs=1, limits=Limits(wall_seconds=1.0)) as impatient:
        yield lambda program: impatient.run(textwrap.dedent(program), HIDDEN)
