"""Choose the queries to label from what a policy answers before its training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from task import final_answer

from memstore.types import FloatMatrix, FloatVector

SHARPNESS = 8
"""Exponent of the cosine between two queries; without it, the cosines of this task's problems are all .4 to .7."""
FLOOR = 0.1
"""Worth of a query on which all rollouts agree; the largest worth is 1.1."""


def top_share(responses: Sequence[str]) -> float:
    """Share of the most frequent answer of a group; a response without an answer agrees with no other."""
    answers = [answer for answer in map(final_answer, responses) if answer is not None]
    return max(map(answers.count, answers), default=1) / len(responses)


def choose(vectors: FloatMatrix, share: FloatVector | NDArray[np.float64], count: int) -> list[int]:
    """Queries to label: greedily maximise the sum over queries of worth x similarity to the nearest labelled one.

    The worth 4 s (1 - s) + FLOOR of a query is highest where half of the rollouts agree. A query on which no two
    rollouts agree has few right ones, and neither the policy nor the reward model learns much from its label.

    Args:
        vectors: float32 [Q, D], unit vectors of the queries.
        share: float64 [Q], share of the most frequent answer s.
        count: number of queries to choose.
    """
    similarity = np.maximum(vectors @ vectors.T, 0) ** SHARPNESS
    worth, nearest, chosen = 4 * share * (1 - share) + FLOOR, np.zeros(len(share)), list[int]()
    for _ in range(count):
        gain = worth @ np.maximum(similarity - nearest[:, None], 0)
        gain[chosen] = -1.0
        chosen.append(int(gain.argmax()))
        nearest = np.maximum(nearest, similarity[:, chosen[-1]])
    return chosen
