"""What every backend refuses before it writes or asks anything, in the same words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from memstore.errors import InputError
from memstore.types import FloatMatrix

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")


def check_name(what: str, name: str) -> None:
    """Refuse an id, a namespace or a fingerprint that could not stand inside a filter expression.

    Raises:
        InputError: it is empty, longer than 128 characters, or has others than letters, digits and `_.:-`.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{what} {name[:80]!r} cannot be used: at most 128 letters, digits, and `_`, `.`, `:`, `-` after the first"
        )


def check_ids(ids: Sequence[str]) -> None:
    """Refuse ids that could not stand inside a filter expression."""
    for name in ids:
        check_name("vector id", name)


def check_upsert(ids: Sequence[str], vectors: FloatMatrix, dimension: int) -> None:
    """Refuse rows that a store could not hold as they are.

    Raises:
        InputError: not float32, another number of rows or dimension, a NaN or an infinity, or ids that repeat.
    """
    check_ids(ids)
    check_vectors(vectors, dimension)
    if len(vectors) != len(ids):
        raise InputError(f"{len(ids)} ids came with {len(vectors)} vectors; pass one vector for each id")
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise InputError(f"vector id {name!r} stands twice in one upsert; pass each id once")
        seen.add(name)


def check_vectors(vectors: FloatMatrix, dimension: int) -> None:
    """Refuse an array that is not a matrix of finite float32 of this dimension."""
    if vectors.dtype != np.float32:
        raise InputError(f"the vectors are {vectors.dtype}; pass float32, which is stored bit for bit")
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        raise InputError(f"the vectors have shape {vectors.shape}; this store holds rows of {dimension} dimensions")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise InputError(f"vector {int(np.argmin(finite))} has a NaN or an infinity; nothing was written")


def check_k(k: int) -> None:
    """Refuse a search for no neighbours."""
    if k < 1:
        raise InputError(f"a search for the {k} nearest finds nothing; ask for at least 1")
