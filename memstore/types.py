"""Types of the domain, for signatures: ids, domains, reward sources, and arrays with their dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NewType, TypeAlias

if TYPE_CHECKING:  # the client of the reward service runs without numpy
    import numpy as np
    from numpy.typing import NDArray

QueryId = NewType("QueryId", str)
RolloutId = NewType("RolloutId", str)
"""Id of a Thinking node, which represents one rollout."""
AnswerId = NewType("AnswerId", str)

Domain: TypeAlias = Literal["math", "qa", "code", "other"]
DOMAINS: tuple[Domain, ...] = ("math", "qa", "code", "other")

RewardSource: TypeAlias = Literal["ground_truth", "person"]

AUDIT_SPLIT: Literal["audit"] = "audit"
"""Split of an audit query, which is kept for measuring: its labels are never learned from, and no batch has it."""

VectorKind: TypeAlias = Literal["query", "thinking"]
VECTOR_KINDS: tuple[VectorKind, ...] = ("query", "thinking")

FloatMatrix: TypeAlias = "NDArray[np.float32]"
"""float32 [N, D], C-contiguous; rows have unit length unless stated otherwise."""
IntVector: TypeAlias = "NDArray[np.int64]"
FloatVector: TypeAlias = "NDArray[np.float64]"
BoolVector: TypeAlias = "NDArray[np.bool_]"
