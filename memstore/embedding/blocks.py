"""One block of the vector cache: a safetensors file of keys and vectors, written durably or not at all.

    keys     uint8 [N, 16]       content hashes
    vectors  float32 [N, D]      read through a memory map

A block is written under a temporary name, synced and renamed, so a file with a block's name is whole unless
something else touched it. `open_block` trusts a file only when its header is a block's, its length is what the
header says and its arrays have the checksum that was written with them (0.02 s for 80,000 x 384).
"""

from __future__ import annotations

import errno
import json
import math
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from memstore.errors import StoreError, StoreFullError
from memstore.types import FloatMatrix

KEY_BYTES = 16
FORMAT = "memstore-vectors-1"
_HEADER_LIMIT = 1 << 16


class Block(NamedTuple):
    """An open block."""

    path: Path
    keys: NDArray[np.bytes_]
    """S16 [N]."""
    vectors: FloatMatrix
    """float32 [N, D], a memory map."""


class NotABlock(Exception):
    """A file that cannot be trusted; the message says why."""


def write_block(path: Path, keys: NDArray[np.bytes_], vectors: FloatMatrix) -> None:
    """Write a block and return when it would survive a power cut.

    Raises:
        StoreFullError: no space; nothing is left behind.
        StoreError: the file system refused.
    """
    raw = np.frombuffer(keys.tobytes(), dtype=np.uint8).reshape(-1, KEY_BYTES)
    vectors = np.ascontiguousarray(vectors)
    metadata = {"format": FORMAT, "crc32": _checksum(raw, vectors)}
    data = save({"keys": raw, "vectors": vectors}, metadata)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(
                f"there is no space left for the vector cache {path.parent}; free some and repeat the command"
            ) from error
        raise StoreError(f"could not write to the vector cache {path.parent}: {error.strerror}") from error


def open_block(path: Path) -> Block:
    """Map a block into memory.

    Raises:
        NotABlock: it is torn, or something else.
    """
    header, start = _header(path)
    try:
        if header["__metadata__"]["format"] != FORMAT:
            raise NotABlock("it is of another format")
        keys = _tensor(path, header["keys"], start, "U8", np.uint8)
        vectors = _tensor(path, header["vectors"], start, "F32", np.float32)
        checksum = header["__metadata__"]["crc32"]
    except (KeyError, TypeError, ValueError) as error:
        raise NotABlock(f"its header is not a block's ({error})") from error
    if keys.ndim != 2 or keys.shape[1] != KEY_BYTES or vectors.ndim != 2 or len(vectors) != len(keys):
        raise NotABlock(f"its arrays have shapes {keys.shape} and {vectors.shape}")
    if _checksum(keys, vectors) != checksum:
        raise NotABlock("its content is damaged")
    return Block(path, np.frombuffer(keys.tobytes(), dtype=f"S{KEY_BYTES}"), vectors)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= _HEADER_LIMIT:
            raise NotABlock("it has no safetensors header")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise NotABlock("its header is torn") from error
    if not isinstance(header, dict):
        raise NotABlock("its header is not a block's")
    end = 8 + length + max((entry["data_offsets"][1] for name, entry in _tensors(header)), default=0)
    if path.stat().st_size != end:
        raise NotABlock(f"it has {path.stat().st_size} bytes where its header says {end}")
    return header, 8 + length


def _tensors(header: dict[str, Any]) -> list[tuple[str, Any]]:
    found = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    if not all(isinstance(entry, dict) and len(entry.get("data_offsets", ())) == 2 for _, entry in found):
        raise NotABlock("its header is not a block's")
    return found


def _tensor(path: Path, entry: dict[str, Any], start: int, stored: str, dtype: type) -> NDArray[Any]:
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = entry["data_offsets"]
    if entry["dtype"] != stored or end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError("types and sizes disagree")
    if begin == end:
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=start + begin, shape=shape))


def _checksum(keys: NDArray[np.uint8], vectors: FloatMatrix) -> str:
    return f"{zlib.crc32(vectors.data, zlib.crc32(keys.data)):08x}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
