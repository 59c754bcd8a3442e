"""Vectors by content: no text is embedded twice by one embedder, not even after a crash.

A folder, named by its owner after the embedder's fingerprint, holds blocks (`blocks.py`); each `append` adds one, whole
and durable before it returns. In memory there is one sorted array of keys. Rows, as `lookup` gives them, hold until
the cache is closed. Many small blocks become one when the cache is opened: the merged block is there before the
small ones go, and a block that holds nothing new, such as one a crash left behind then, is removed.

A file that is torn or something else is never read: it is moved to `damaged/`, with a warning in the log. The cache
is derived data; what is missing is embedded again. One process at a time may have it open; the memory sees to that.
Its threads may share it.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memstore.checks import check_vectors
from memstore.embedding.blocks import KEY_BYTES, Block, NotABlock, open_block, write_block
from memstore.errors import EmbedderError, InputError, StoreError, StoreFullError
from memstore.types import FloatMatrix, IntVector

logger = logging.getLogger(__name__)

SMALL_ROWS = 16_384
"""A block of fewer rows is small."""
SMALL_BLOCKS = 8
"""More small blocks than these are merged."""
MERGED_ROWS = 65_536
"""A merged block stops growing here (about 100 MB of 384 dimensions)."""

_KEY = f"S{KEY_BYTES}"
_NAME = re.compile(r"block-(\d{6,})\.safetensors")


class VectorCache:
    """Unit vectors of one embedder by the content hash of their text (`memstore.records.ids.vector_key`)."""

    def __init__(self, folder: Path, dimension: int, blocks: list[Block]) -> None:
        """Over open blocks; use `open`."""
        self.folder = folder
        self.dimension = dimension
        self._blocks = blocks
        self._starts = np.cumsum([0, *(len(block.keys) for block in blocks)])
        keys = np.concatenate([np.zeros(0, _KEY), *(block.keys for block in blocks)])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._rows: IntVector = order.astype(np.int64)
        self._next = 1 + max((_number(block.path) for block in blocks), default=-1)
        self._closed = False
        self._lock = threading.RLock()

    @classmethod
    def open(cls, folder: Path, dimension: int) -> VectorCache:
        """Open the cache in `folder`, which is made if it is not there.

        Raises:
            EmbedderError: it holds vectors of another dimension.
            StoreError: the folder cannot be made or written to.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left_over in folder.glob("*.tmp"):
                left_over.unlink()
            blocks = _useful(_trusted(folder))
        except OSError as error:
            raise StoreError(f"the vector cache {folder} cannot be opened: {error.strerror}") from error
        for block in blocks:
            if block.vectors.shape[1] != dimension:
                raise EmbedderError(
                    f"the vector cache {folder} holds vectors of {block.vectors.shape[1]} dimensions and the embedder "
                    f"makes {dimension}; open the memory with the embedder it was built with"
                )
        return cls(folder, dimension, _merged(folder, blocks))

    def __len__(self) -> int:
        """How many vectors are held."""
        return len(self._keys)

    def lookup(self, keys: Sequence[str]) -> IntVector:
        """The row of each key (32 hexadecimal digits), -1 where there is none."""
        asked = _packed(keys)
        with self._lock:
            self._check_open()
            held, rows = self._keys, self._rows
        if not len(held):
            return np.full(len(asked), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(held, asked), len(held) - 1)
        found: IntVector = np.where(held[at] == asked, rows[at], -1)
        return found

    def append(self, keys: Sequence[str], vectors: FloatMatrix) -> None:
        """Hold these vectors (float32 [N, D]) from now on; those whose key is held already are left as they are.

        Raises:
            InputError: shapes that do not fit, or a NaN or an infinity.
            StoreFullError: no space; nothing was added.
        """
        self._check_open()
        check_vectors(vectors, self.dimension)
        if len(keys) != len(vectors):
            raise InputError(f"{len(keys)} keys came with {len(vectors)} vectors; pass one vector for each key")
        with self._lock:
            self._append(keys, vectors)

    def _append(self, keys: Sequence[str], vectors: FloatMatrix) -> None:
        packed, first = np.unique(_packed(keys), return_index=True)
        new = self.lookup([keys[position] for position in first]) < 0
        if not new.any():
            return
        order = np.sort(first[new])
        path = self.folder / f"block-{self._next:06d}.safetensors"
        write_block(path, _packed([keys[position] for position in order]), vectors[order])
        self._next += 1
        block = open_block(path)
        start = int(self._starts[-1])
        self._blocks.append(block)
        self._starts = np.append(self._starts, start + len(block.keys))
        packed = packed[new]
        at = np.searchsorted(self._keys, packed)
        self._keys = np.insert(self._keys, at, packed)
        self._rows = np.insert(self._rows, at, start + np.searchsorted(order, first[new]))

    def vectors(self, rows: IntVector) -> FloatMatrix:
        """Vectors float32 [N, D] of these rows, in their order.

        Raises:
            InputError: a row that is not one of this cache's.
        """
        with self._lock:
            self._check_open()
            blocks, starts = list(self._blocks), self._starts
        if len(rows) and not (rows.min() >= 0 and rows.max() < starts[-1]):
            raise InputError(f"the vector cache {self.folder} does not hold all of these; look them up and add them")
        found = np.empty((len(rows), self.dimension), dtype=np.float32)
        owner = np.searchsorted(starts, rows, side="right") - 1
        for block in np.unique(owner):
            mine = np.flatnonzero(owner == block)
            found[mine] = blocks[block].vectors[rows[mine] - starts[block]]
        return found

    def close(self) -> None:
        """Let go of the files; calling it again does nothing."""
        with self._lock:
            self._closed = True
            self._blocks = []

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the vector cache {self.folder} is closed; open it again")


def _packed(keys: Sequence[str]) -> NDArray[np.bytes_]:
    """Keys as S16 [N]. Trailing zero bytes do not matter: all keys are 16 bytes long."""
    try:
        raw = bytes.fromhex("".join(keys))
    except ValueError as error:
        raise InputError("a vector key is 32 hexadecimal digits; use memstore.records.ids.vector_key") from error
    if any(len(key) != 2 * KEY_BYTES for key in keys):
        raise InputError("a vector key is 32 hexadecimal digits; use memstore.records.ids.vector_key")
    return np.frombuffer(raw, dtype=_KEY)


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else -1


def _trusted(folder: Path) -> list[Block]:
    """All whole blocks; what is none is moved aside."""
    blocks = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            if not _NAME.fullmatch(path.name):
                raise NotABlock("its name is not a block's")
            blocks.append(open_block(path))
        except NotABlock as reason:
            aside = folder / "damaged" / path.name
            aside.parent.mkdir(exist_ok=True)
            path.replace(aside)
            logger.warning("%s is not used: %s; moved to %s, its texts will be embedded again", path, reason, aside)
    return blocks


def _useful(blocks: list[Block]) -> list[Block]:
    """Blocks in the order they were written, without those whose keys all stand in larger ones; these are removed."""
    largest_first = sorted(blocks, key=lambda block: -len(block.keys))
    keys = np.concatenate([np.zeros(0, _KEY), *(block.keys for block in largest_first)])
    _, first = np.unique(keys, return_index=True)
    owner = np.repeat(np.arange(len(blocks)), [len(block.keys) for block in largest_first])
    new = np.bincount(owner[first], minlength=len(blocks))
    kept = []
    for block, adds in zip(largest_first, new, strict=True):
        if adds:
            kept.append(block)
        else:
            block.path.unlink()
    return sorted(kept, key=lambda block: _number(block.path))


def _merged(folder: Path, blocks: list[Block]) -> list[Block]:
    """The blocks, the small ones merged if there are many."""
    small = [block for block in blocks if len(block.keys) < SMALL_ROWS]
    if len(small) <= SMALL_BLOCKS:
        return blocks
    kept = [block for block in blocks if len(block.keys) >= SMALL_ROWS]
    number = 1 + max(_number(block.path) for block in blocks)
    while small:
        size = max(1, int(np.searchsorted(np.cumsum([len(block.keys) for block in small]), MERGED_ROWS, side="right")))
        group, small = small[:size], small[size:]
        keys, first = np.unique(np.concatenate([block.keys for block in group]), return_index=True)
        vectors = np.concatenate([block.vectors for block in group])
        path = folder / f"block-{number:06d}.safetensors"
        try:
            write_block(path, keys, vectors[first])
        except StoreFullError:
            logger.warning("there is no space left to merge the small blocks of %s; they are used as they are", folder)
            return [*kept, *group, *small]
        for block in group:
            block.path.unlink()
        kept.append(open_block(path))
        number += 1
    return kept
