"""Checks of names, vectors and output files, before anything is read or written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

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


def check_not_input(path: Path | None, what: str, inputs: Iterable[str | Path]) -> None:
    """Refuse an output file that is one of the inputs, also through a link.

    Args:
        path: the output file; None skips the check.
        what: content of the output, for the message (`scores`).
        inputs: files that are read; names that are not files are ignored.

    Raises:
        InputError: `path` is an input.
    """
    if path is not None and any(_same_file(path, Path(file)) for file in inputs):
        raise InputError(f"{path} is an input, so the {what} cannot be written to it; name another file")


def _same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them does not exist yet
        return path.resolve() == other.resolve()
