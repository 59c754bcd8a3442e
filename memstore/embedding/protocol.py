"""The embedder protocol and the fingerprint that identifies an embedder.

A memory is built with one embedder and rejects any other. The fingerprint covers what changes the meaning of the
vectors: model, revision, dimension, normalisation, window, and the treatment of texts longer than the window. It does
not cover what changes only the last bits: dtype (bf16 or fp32) and device (CPU or CUDA).
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
"""Treatment of a text longer than the window: the mean of its windows, its first window, or its last window."""


@dataclass(frozen=True)
class Fingerprint:
    """Identity of an embedder. `str(fingerprint)` names vector collections and cache folders."""

    model: str
    """Name of the model without its owner, e.g. `all-MiniLM-L6-v2`."""
    revision: str
    """Digest of the weights (first 12 hexadecimal digits of their SHA-256)."""
    dimension: int
    normalised: bool
    window: int
    """Maximum tokens per forward pass, special tokens included."""
    long_text: LongText

    def __str__(self) -> str:
        digest = hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=4)
        name = re.sub(r"[^a-z0-9]+", "_", self.model.lower()).strip("_")
        return f"{name}_{self.dimension}_{digest.hexdigest()}"


ProgressCallback = Callable[[int], None]
"""Called with the number of items finished since the last call."""


class Embedder(Protocol):
    """Converts texts to unit vectors."""

    fingerprint: Fingerprint

    def embed(self, texts: Sequence[str], progress: ProgressCallback | None = None) -> FloatMatrix:
        """Return unit vectors, float32 [N, D], of non-blank texts in their order.

        Implementations must be batch-invariant: a text has the same vector, bit for bit, in any batch. A resumed
        ingest then ends with the same vectors as an uninterrupted one.

        Raises:
            InputError: a text is blank.
        """
        ...
