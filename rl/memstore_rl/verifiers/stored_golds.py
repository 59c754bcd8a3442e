"""Compares answers with reference answers that a memory holds: a `Judge` over verifiers."""

from __future__ import annotations

from collections.abc import Sequence

from memstore_gnn.scoring.remembered import Judge, Question
from memstore_rl.verifiers.protocol import Attempt
from memstore_rl.verifiers.standard import Verifiers


def judge_of(verifiers: Verifiers) -> Judge:
    """Return a judge that asks the verifier of each question's domain."""

    def judge(questions: Sequence[Question]) -> list[float | None]:
        attempts = [Attempt(one.query, one.gold, one.answer) for one in questions]
        verdicts = verifiers.check_all([one.domain for one in questions], attempts)
        return [verdict.reward for verdict in verdicts]

    return judge
