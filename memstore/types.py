"""The words of the domain as types. A signature that uses them reads as the design does."""

from __future__ import annotations

from typing import Literal, NewType, TypeAlias

import numpy as np
from numpy.typing import NDArray

QueryId = NewType("QueryId", str)
RolloutId = NewType("RolloutId", str)
"""Id of a Thinking node: one rollout has exactly one."""
AnswerId = NewType("AnswerId", str)

Domain: TypeAlias = Literal["math", "qa", "code", "other"]
DOMAINS: tuple[Domain, ...] = ("math", "qa", "code", "other")

RewardSource: TypeAlias = Literal["ground_truth", "person"]

VectorKind: TypeAlias = Literal["query", "thinking"]
VECTOR_KINDS: tuple[VectorKind, ...] = ("query", "thinking")

FloatMatrix: TypeAlias = NDArray[np.float32]
"""float32 [N, D], C-contiguous, rows of unit length unless said otherwise."""
IntVector: TypeAlias = NDArray[np.int64]
FloatVector: TypeAlias = NDArray[np.float64]
BoolVector: TypeAlias = NDArray[np.bool_]
