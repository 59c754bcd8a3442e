"""Mathematical answers: equal, different, and undecidable pairs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memstore.runtime.fair_queue import CpuAccount
from memstore.runtime.processes import WorkerError
from memstore_rl.verifiers import Attempt, Verdict
from memstore_rl.verifiers.math import MathVerifier

SLOW = "9^{9^{9^{9}}}+x"
"""A formula that takes longer than any limit to compare."""


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    made = MathVerifier(seconds=3.0, processes=2)
    yield made
    made.close()


def check(verifier: MathVerifier, gold: str, answer: str) -> Verdict:
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
        ("10^{-8}x", "\\frac{x}{10^8}"),  # small numbers, written in another way
        ("e^{-20}", "\\frac{1}{e^{20}}"),
        ("\\{10^{-8}, 2\\}", "\\{2,10^{-8}\\}"),
        ("6.02e23", "6.02\\times 10^{23}"),
        ("0.0012346", "0.00123461"),
        ("\\sin(\\pi)", "0"),
        ("1011_2", "1011_{2}"),
        ("x_1+x_2", "x_2+x_1"),  # an index, not a base
        ("1 - \\frac{1}{\\mathrm{e}}", "1 - e^{-1}"),  # upright constants
        ("\\ln 2 + \\mathrm{e}", "e+\\ln 2"),
        ("2\\mathrm{i}+1", "1+2i"),
        ("\\frac{1}{12}", "0.0833333333333333"),
        ("1/3", "0.\\overline{3}"),
        ("\\sqrt{12}", "2\\sqrt{3}\\text{ cm}"),
        ("16\\pi", "16π cm²"),
        ("14 - i", "14.0 + -1.0i"),
        ("19, 46, \\text{ and } 82", "19, 46, 82"),
    ],
)
def test_equal(verifier: MathVerifier, gold: str, answer: str) -> None:
    assert check(verifier, gold, answer) == Verdict(1.0)


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
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),  # below six decimals all numbers are zero
        ("10^{-12}", "10^{-11}"),
        ("1.23e-9", "4.56e-9"),
        ("0.0000001", "0.0000002"),
        ("0", "10^{-9}"),
        ("0.000012", "0.0000123"),
        ("10^{-8}x", "2\\cdot 10^{-8}x"),
        ("\\{10^{-8}, 2\\}", "\\{2,10^{-9}\\}"),
        ("(10^{-8}, 2)", "(2\\cdot10^{-8}, 2)"),
        ("e^{-20}", "e^{-21}"),
        ("\\sqrt{2}\\cdot10^{-7}", "3\\cdot 10^{-7}"),
        ("\\frac{\\pi}{10^9}", "\\frac{2\\pi}{10^9}"),
        ("x=\\frac{1}{10^9}", "x=\\frac{2}{10^9}"),
        ("\\begin{pmatrix}10^{-8}\\\\1\\end{pmatrix}", "\\begin{pmatrix}10^{-9}\\\\1\\end{pmatrix}"),
        ("1011_2", "1011_3"),  # the base is part of the number
        ("213_7", "213_8"),
        ("1011_2", "11"),
        ("1011_2", "1011"),
        ("(1011_2, 3)", "(1011_3, 3)"),
        ("1A_{16}", "1A_{12}"),
        ("1/3", "0.33"),
        ("0.5", "50\\%"),
        ("6.02e23", "6.03e23"),
        ("19, 46, \\text{ and } 82", "21, 46, 82"),
        ("2\\mathrm{i}", "2"),
    ],
)
def test_different(verifier: MathVerifier, gold: str, answer: str) -> None:
    assert check(verifier, gold, answer) == Verdict(0.0)


@pytest.mark.parametrize("gold", ["\\frac{", "$", "###"])
@pytest.mark.parametrize("answer", ["x+1", "3", "", "no idea"])
def test_unreadable_gold_gives_no_verdict(verifier: MathVerifier, gold: str, answer: str) -> None:
    verdict = check(verifier, gold, answer)
    assert verdict.reward is None
    assert verdict.reason is not None
    assert "cannot be read" in verdict.reason


BOMBS = ["9^{9^{9^9}}", "1000000000!", "\\binom{10^9}{10^8}", "(x+1)^{99999999}", SLOW]
"""Answers that take longer than any limit to compare."""


def test_hanging_gold_gives_no_verdict_and_blocks_no_other(verifier: MathVerifier) -> None:
    slow, equal = verifier.check([Attempt("", "9^{9^{9^{8}}}", SLOW), Attempt("", "(y+1)^2", "y^2+2y+1")])
    assert slow.reward is None
    assert slow.reason is not None
    assert "within 3 s" in slow.reason
    assert equal == Verdict(1.0)


@pytest.mark.parametrize("gold", ["5", "x+1", "\\frac{1}{3}", "\\{1,2\\}"])
def test_answer_that_cannot_be_compared_is_wrong(gold: str) -> None:
    # The reward model would predict a reward for it: an answer must not escape its verdict by being expensive.
    verifier = MathVerifier(seconds=0.6, group_seconds=4.5, processes=2)
    try:
        verdicts = verifier.check([Attempt("", gold, answer) for answer in [*BOMBS, gold, "7"]])
        assert [verdict.reward for verdict in verdicts] == [0.0] * len(BOMBS) + [1.0, 0.0]
        assert any("was not compared with the gold" in (verdict.reason or "") for verdict in verdicts)
        assert verdicts[-1] == Verdict(0.0)
    finally:
        verifier.close()


class Counted(MathVerifier):
    """Counts the requests to the workers and their CPU seconds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[tuple[str, float]] = []

    def _ask(self, gold: str, answer: str | None, seconds: float, account: CpuAccount) -> str:
        before = account.seconds
        letter = super()._ask(gold, answer, seconds, account)
        if answer is not None:
            self.asked.append((answer, account.seconds - before))
        return letter


def test_group_has_one_budget_and_copies_cost_one() -> None:
    verifier = Counted(seconds=0.4, group_seconds=1.0, processes=1)
    bombs = [f"9^{{9^{{9^{n}}}}}+x" for n in range(4, 24)]
    attempts = [Attempt("q", "x+1", answer) for answer in [*bombs, *bombs, "1+x"]]
    try:
        first = verifier.check(attempts)
        used = sum(seconds for _, seconds in verifier.asked)
        assert used <= 1.0 + 0.4 + 0.3  # the budget and the comparison that spent it
        assert [verdict.reward for verdict in first[:-1]] == [0.0] * 40
        asked = len(verifier.asked)
        assert verifier.check(attempts) == first
        assert len(verifier.asked) == asked  # outcomes are kept
        assert sum(worker.starts for worker in verifier._workers.workers) == 1  # no bomb costs a new worker
    finally:
        verifier.close()


def test_expensive_answers_take_nothing_from_the_others_of_their_group() -> None:
    verifier = MathVerifier(seconds=0.4, group_seconds=2.0, processes=1)
    try:
        bombs = [Attempt("q", "x+1", bomb) for bomb in BOMBS[:3]]
        cheap = [Attempt("q", "x+1", f"{n}+x") for n in range(3)]
        assert [verdict.reward for verdict in verifier.check([*bombs, *cheap])] == [0.0] * 3 + [0.0, 1.0, 0.0]
    finally:
        verifier.close()


def test_time_limit_works_in_threads(verifier: MathVerifier) -> None:
    # math-verify's own limit fails outside the main thread.
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda n: check(verifier, f"x+{n}", f"{n}+x" if n % 2 else f"{n}x"), range(8)))
    assert [verdict.reward for verdict in verdicts] == [0.0, 1.0] * 4


def test_dead_worker_is_replaced() -> None:
    verifier = MathVerifier(processes=1)
    try:
        assert check(verifier, "x+1", "1+x") == Verdict(1.0)
        pid = verifier._workers.workers[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert check(verifier, "x+2", "2+x") == Verdict(1.0)
    finally:
        verifier.close()


class Losing(MathVerifier):
    """Loses the worker process of every comparison with one of some formulas."""

    def __init__(self, *formulas: str) -> None:
        super().__init__(processes=1)
        self.lost, request = 0, self._workers.request

        def lose(line: bytes, timeout_s: float, account: CpuAccount | None = None) -> bytes | None:
            if any(formula in json.loads(line)[:2] for formula in formulas):
                self.lost += 1
                return None
            return request(line, timeout_s, account)

        self._workers.request = lose  # type: ignore[method-assign]


def test_answer_that_ends_its_worker_is_wrong_and_stays_so() -> None:
    verifier = Losing("x+3")
    try:
        attempts = [Attempt("", "x+1", answer) for answer in ("x+3", "1+x")]
        first = verifier.check(attempts)
        assert [verdict.reward for verdict in first] == [0.0, 1.0]
        assert "ended during the comparison" in (first[0].reason or "")
        assert verifier.check(attempts[:1]) == first[:1]
        assert verifier.lost == 2
    finally:
        verifier.close()


def test_gold_that_ends_its_worker_gives_no_verdict() -> None:
    verifier = Losing("x+1")
    try:
        verdict = check(verifier, "x+1", "1+x")
        assert verdict.reward is None
        assert "cannot be compared with anything" in (verdict.reason or "")
    finally:
        verifier.close()


def test_workers_that_end_with_every_formula_are_an_error() -> None:
    verifier = Losing("x+1", "\\frac{1}{2}")
    try:
        with pytest.raises(WorkerError, match="free memory"):
            check(verifier, "x+1", "1+x")
    finally:
        verifier.close()


def test_close_stops_the_workers() -> None:
    verifier = MathVerifier(processes=1)
    check(verifier, "x+1", "1+x")
    pid = verifier._workers.workers[0].pid
    assert pid is not None
    verifier.close()
    verifier.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs the environment of another process")
def test_workers_have_a_fixed_hash_seed() -> None:
    # The order of sets inside sympy must not decide what a comparison costs or finds.
    verifier = MathVerifier(processes=1)
    try:
        assert verifier.check([Attempt("q", "x+1", "1+x")])[0].reward == 1.0
        environment = Path(f"/proc/{verifier._workers.workers[0].pid}/environ").read_bytes()
        assert b"PYTHONHASHSEED=0" in environment.split(b"\0")
    finally:
        verifier.close()
