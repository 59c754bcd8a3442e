"""How far the responses of a policy agree, by which the queries to label are chosen before its training."""

from __future__ import annotations

from collections.abc import Sequence

from task import final_answer


def top_share(responses: Sequence[str]) -> float:
    """Share of the most frequent answer of a group; a response without an answer agrees with no other."""
    answers = [answer for answer in map(final_answer, responses) if answer is not None]
    return max(map(answers.count, answers), default=1) / len(responses)
