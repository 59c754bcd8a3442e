"""On-disk cache of embedding vectors, keyed by the content hash of the text.

The cache is a folder of blocks (`blocks.py`), one folder per embedder fingerprint. Each `append` writes one block
and syncs it before returning. An index of sorted keys is kept in memory. Row numbers returned by `lookup` stay valid
until the cache is closed.

Opening merges small blocks when there are many. The merged block is written before the small ones are deleted; if a
crash leaves both, the next opening deletes the blocks whose keys are all present in larger ones.

Invalid files are moved to `damaged/` and logged. The cache is derived data: missing vectors are computed again. The
memory's lock allows one process at a time; threads of that process may share a cache.

A cache in a folder that cannot be written to is opened as it is, and keeps what is appended in memory.
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
from memstore.embedding.blocks import KEY_BYTES, Block, InvalidBlockError, open_block, write_block
from memstore.errors import EmbedderError, InputError, StoreError, StoreFullError
from memstore.types import FloatMatrix, IntVector

logger = logging.getLogger(__name__)

SMALL_ROWS = 16_384
"""Blocks with fewer rows are candidates for merging."""
SMALL_BLOCKS = 8
"""Merge when there are more small blocks than this."""
MERGED_ROWS = 65_536
"""Maximum rows of a merged block (about 100 MB at 384 dimensions)."""
RELEASED_ROWS = 1024
"""After reading more rows of a block at once, its pages are dropped: a snapshot reads them once."""

_KEY = f"S{KEY_BYTES}"
_NAME = re.compile(r"block-(\d{6,})\.safetensors")


class VectorCache:
    """Unit vectors of one embedder, keyed by `memstore.records.ids.vector_key` of their text."""

    def __init__(self, folder: Path, dimension: int, blocks: list[Block], *, read_only: bool = False) -> None:
        """Build the index over open blocks; call `open` instead."""
        self.folder = folder
        self.read_only = read_only
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
    def open(cls, folder: Path, dimension: int, *, read_only: bool = False) -> VectorCache:
        """Open the cache in `folder`, creating the folder if needed.

        Args:
            read_only: the folder cannot be written to: write nothing, and skip invalid files.

        Raises:
            EmbedderError: the cache holds vectors of a different dimension.
            StoreError: the folder cannot be created or written to.
        """
        try:
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True)
                for left_over in folder.glob("*.tmp"):
                    left_over.unlink()
            blocks = _valid_blocks(folder, read_only=read_only)
            if not read_only:
                blocks = _without_redundant(blocks)
        except OSError as error:
            raise StoreError(f"cannot open the vector cache {folder}: {error.strerror}") from error
        for block in blocks:
            if block.vectors.shape[1] != dimension:
                raise EmbedderError(
                    f"the vector cache {folder} holds vectors of {block.vectors.shape[1]} dimensions, but the embedder "
                    f"returns {dimension}; open the memory with the embedder it was built with"
                )
        return cls(folder, dimension, blocks if read_only else _merged(folder, blocks), read_only=read_only)

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._keys)

    def lookup(self, keys: Sequence[str]) -> IntVector:
        """Return the row of each key (32 hexadecimal digits), or -1 if the key is absent."""
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
        """Add vectors (float32 [N, D]) and sync them to disk; keys that are already present keep their vectors.

        Raises:
            InputError: the shapes do not match, or a value is NaN or infinite.
            StoreFullError: the disk is full; nothing was added.
        """
        self._check_open()
        check_vectors(vectors, self.dimension)
        if len(keys) != len(vectors):
            raise InputError(f"got {len(keys)} keys but {len(vectors)} vectors; pass one vector per key")
        with self._lock:
            self._append(keys, vectors)

    def _append(self, keys: Sequence[str], vectors: FloatMatrix) -> None:
        packed, first = np.unique(_packed(keys), return_index=True)
        new = self.lookup([keys[position] for position in first]) < 0
        if not new.any():
            return
        order = np.sort(first[new])
        block = self._block(_packed([keys[position] for position in order]), vectors[order])
        self._next += 1
        start = int(self._starts[-1])
        self._blocks.append(block)
        self._starts = np.append(self._starts, start + len(block.keys))
        packed = packed[new]
        at = np.searchsorted(self._keys, packed)
        self._keys = np.insert(self._keys, at, packed)
        self._rows = np.insert(self._rows, at, start + np.searchsorted(order, first[new]))

    def _block(self, keys: NDArray[np.bytes_], vectors: FloatMatrix) -> Block:
        """A new block: a file, or arrays in memory if the folder cannot be written to."""
        path = self.folder / f"block-{self._next:06d}.safetensors"
        if self.read_only:
            return Block(path, keys, vectors.astype(np.float32))
        write_block(path, keys, vectors)
        return open_block(path)

    def vectors(self, rows: IntVector) -> FloatMatrix:
        """Return the vectors of these rows, float32 [N, D], in the given order.

        Raises:
            InputError: a row is out of range.
        """
        with self._lock:
            self._check_open()
            blocks, starts = list(self._blocks), self._starts
        if len(rows) and not (rows.min() >= 0 and rows.max() < starts[-1]):
            raise InputError(f"a row is not in the vector cache {self.folder}; append the missing vectors first")
        found = np.empty((len(rows), self.dimension), dtype=np.float32)
        owner = np.searchsorted(starts, rows, side="right") - 1
        for block in np.unique(owner):
            mine = np.flatnonzero(owner == block)
            found[mine] = blocks[block].vectors[rows[mine] - starts[block]]
            if len(mine) > RELEASED_ROWS:
                blocks[block].release()
        return found

    def close(self) -> None:
        """Release the files. Closing twice is allowed."""
        with self._lock:
            self._closed = True
            self._blocks = []

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"the vector cache {self.folder} is closed; open it again")


def _packed(keys: Sequence[str]) -> NDArray[np.bytes_]:
    """Keys as S16 [N]. NumPy drops trailing zero bytes; this is harmless because all keys have 16 bytes."""
    try:
        raw = bytes.fromhex("".join(keys))
    except ValueError as error:
        raise InputError("a vector key is 32 hexadecimal digits; use memstore.records.ids.vector_key") from error
    if set(map(len, keys)) - {2 * KEY_BYTES}:
        raise InputError("a vector key is 32 hexadecimal digits; use memstore.records.ids.vector_key")
    return np.frombuffer(raw, dtype=_KEY)


def _number(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else -1


def _valid_blocks(folder: Path, *, read_only: bool) -> list[Block]:
    """Open all valid blocks; move invalid files to `damaged/`, or skip them with `read_only`."""
    blocks = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            if not _NAME.fullmatch(path.name):
                raise InvalidBlockError("its name is not a block name")
            blocks.append(open_block(path))
        except InvalidBlockError as reason:
            if read_only:
                logger.warning("skipped the invalid cache file %s: %s; its texts are embedded again", path, reason)
                continue
            aside = folder / "damaged" / path.name
            aside.parent.mkdir(exist_ok=True)
            path.replace(aside)
            logger.warning(
                "moved the invalid cache file %s to %s: %s; its texts are embedded again", path, aside, reason
            )
    return blocks


def _without_redundant(blocks: list[Block]) -> list[Block]:
    """Delete blocks whose keys are all present in larger ones; return the rest in the order they were written."""
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
    """Merge the small blocks if there are more than `SMALL_BLOCKS`."""
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
        for block in group:
            block.release()
        path = folder / f"block-{number:06d}.safetensors"
        try:
            write_block(path, keys, vectors[first])
        except StoreFullError:
            logger.warning("no space left to merge the small blocks of %s; using them unmerged", folder)
            return [*kept, *group, *small]
        for block in group:
            block.path.unlink()
        kept.append(open_block(path))
        number += 1
    return kept
