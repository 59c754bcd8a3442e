"""What an embedder is, and the fingerprint that keeps two of them apart.

A memory is built with one embedder. What changes the vectors' meaning is in the fingerprint and a memory refuses
another one: model, revision, dimension, normalisation, and what happens to a text longer than the window. What
only changes the last bits (bf16 or fp32, CPU or CUDA) is not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, TypeAlias

from memstore.types import FloatMatrix

LongText: TypeAlias = Literal["mean", "head", "tail"]
"""What becomes of a text longer than the window: the mean of its windows, its beginning, or its end."""


@dataclass(frozen=True)
class Fingerprint:
    """What a vector's meaning depends on. `str(fingerprint)` names collections and folders."""

    model: str
    """Name of the model without its owner, e.g. `all-MiniLM-L6-v2`."""
    revision: str
    """Digest of the weights (first 12 hexadecimal digits of their SHA-256)."""
    dimension: int
    normalised: bool
    window: int
    """Tokens that one pass of the model reads."""
    long_text: LongText

    def __str__(self) -> str:
        digest = hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=4)
        name = re.sub(r"[^a-z0-9]+", "_", self.model.lower()).strip("_")
        return f"{name}_{self.dimension}_{digest.hexdigest()}"


Progress = Callable[[int], None]
"""Called with the number of items done since the last call."""


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    fingerprint: Fingerprint

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> FloatMatrix:
        """Unit vectors float32 [N, D] of non-blank texts, in their order.

        The same text gives the same bits whatever stands beside it, so that a resumed ingest ends with the same
        vectors as an undisturbed one.

        Raises:
            InputError: a text that is blank.
        """
        ...
