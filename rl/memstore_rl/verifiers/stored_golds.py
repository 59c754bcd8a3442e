"""Compares answers with reference answers that a memory holds: a `Judge` over verifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from memstore_gnn.scoring.remembered import Judge, Question
from memstore_rl.verifiers.protocol import Attempt
from memstore_rl.verifiers.standard import Verifiers, standard_verifiers


def judge_of(verifiers: Verifiers) -> Judge:
    """Return a judge that asks the verifier of each question's domain."""

    def judge(questions: Sequence[Question]) -> list[float | None]:
        attempts = [Attempt(one.query, one.gold, one.answer) for one in questions]
        verdicts = verifiers.check_all([one.domain for one in questions], attempts)
        return [verdict.reward for verdict in verdicts]

    return judge


@contextmanager
def standard_judge() -> Iterator[Judge]:
    """A judge over the standard verifiers; it runs no programs."""
    with closing(standard_verifiers()) as verifiers:
        yield judge_of(verifiers)
