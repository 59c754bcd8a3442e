"""Maths as mathematics: what is equal, what is not, and what nobody can say."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from memstore_rl.verifiers import Attempt, Verdict
from memstore_rl.verifiers.math import MathVerifier
from memstore_rl.verifiers.processes import Worker, WorkerFailed

SLOW = "9^{9^{9^{9}}}+x"
"""A formula that cannot be compared in the time that there is."""


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    made = MathVerifier(seconds=3.0, processes=2)
    yield made
    made.close()


def judged(verifier: MathVerifier, gold: str, answer: str) -> Verdict:
    (verdict,) = verifier.check([Attempt("", gold, answer)])
    return verdict


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("0.5", "\\frac{1}{2}"),
        ("\\frac{1}{2}", "0.5"),
        ("\\frac{1}{2}", "$\\dfrac12$"),
        ("18", "18 dollars"),
        ("18", "$18.00"),
        ("1,200", "1200"),
        ("5", "x = 5"),
        ("x=5", "5"),
        ("(x+1)^2", "x^2+2x+1"),
        ("2\\sqrt{2}", "\\sqrt{8}"),
        ("\\{1,2\\}", "2, 1"),
        ("\\frac{\\pi}{2}", "\\pi/2"),
        ("x<3", "3>x"),
        ("0.333333", "1/3"),
        ("\\text{no solution}", "No solution."),
        ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1 & 2\\\\ 3 & 4\\end{pmatrix}"),
        ("She has 5 left, 5 + 4 = 9.\n#### 9", "9"),
    ],
)
def test_equal(verifier: MathVerifier, gold: str, answer: str) -> None:
    assert judged(verifier, gold, answer) == Verdict(1.0)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("3", "3\\sqrt{2}"),
        ("2", "2x+5"),
        ("2", "x"),
        ("3", "-3"),
        ("3", "1 2"),
        ("3", ""),
        ("6", "5 or 6"),
        ("6", "5, 6"),
        ("listen", "silent"),
        ("(1,2)", "(2,1)"),
        ("(0,1]", "[0,1]"),
        ("\\frac{2}{3}", "0.67"),
        ("x^2", "2x"),
        ("3", "three hundred"),
        ("0", "???"),
        ("x+1", ""),
        ("\\sqrt{2}", "I do not know."),
    ],
)
def test_different(verifier: MathVerifier, gold: str, answer: str) -> None:
    assert judged(verifier, gold, answer) == Verdict(0.0)


@pytest.mark.parametrize("gold", ["\\frac{", "$", "###"])
@pytest.mark.parametrize("answer", ["x+1", "3", "", "no idea"])
def test_a_gold_that_cannot_be_read_is_no_verdict(verifier: MathVerifier, gold: str, answer: str) -> None:
    verdict = judged(verifier, gold, answer)
    assert verdict.reward is None
    assert verdict.reason is not None
    assert "cannot be read" in verdict.reason


def test_a_comparison_that_hangs_is_no_verdict_and_holds_up_no_other(verifier: MathVerifier) -> None:
    started = time.monotonic()
    slow, equal = verifier.check([Attempt("", "9^{9^{9^{8}}}", SLOW), Attempt("", "(y+1)^2", "y^2+2y+1")])
    assert slow.reward is None
    assert slow.reason is not None
    assert "within 3 s" in slow.reason
    assert equal == Verdict(1.0)
    assert time.monotonic() - started < 200  # it would take for ever


def test_the_limit_holds_in_threads(verifier: MathVerifier) -> None:
    # math-verify's own limit raises in a thread that is not the main one.
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda n: judged(verifier, f"x+{n}", f"{n}+x" if n % 2 else f"{n}x"), range(8)))
    assert [verdict.reward for verdict in told] == [0.0, 1.0] * 4


def test_another_process_takes_the_place_of_one_that_died() -> None:
    verifier = MathVerifier(processes=1)
    try:
        assert judged(verifier, "x+1", "1+x") == Verdict(1.0)
        process = verifier._workers._all[0]._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert judged(verifier, "x+2", "2+x").reward is None
        assert judged(verifier, "x+2", "2+x") == Verdict(1.0)
    finally:
        verifier.close()


def test_a_process_that_does_not_start_is_an_error() -> None:
    worker = Worker(["python3", "-c", "raise SystemExit('no such luck')"], b"ready")
    with pytest.raises(WorkerFailed, match="no such luck"):
        worker.ask(b"1", 1.0)


def test_nothing_runs_after_close() -> None:
    verifier = MathVerifier(processes=1)
    judged(verifier, "x+1", "1+x")
    process = verifier._workers._all[0]._process
    assert process is not None
    verifier.close()
    verifier.close()
    assert process.poll() is not None
