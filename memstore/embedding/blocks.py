"""File format of the vector cache: one block is a safetensors file of keys and vectors, written atomically.

    keys     uint8 [N, 16]       content hashes
    vectors  float32 [N, D]      memory-mapped when read

`write_block` writes to a temporary file, calls fsync and renames it, so a crash leaves either a complete block or
none. `open_block` checks the header, the file length and a CRC-32 over both arrays (0.02 s for 80,000 x 384).
"""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from memstore.errors import StoreError, StoreFullError
from memstore.runtime.disk_space import is_full
from memstore.types import FloatMatrix

KEY_BYTES = 16
"""Length of a content hash in bytes (`memstore.records.ids.vector_key`)."""
FORMAT = "memstore-vectors-1"
_MAX_HEADER_BYTES = 1 << 16
"""Larger safetensors headers are rejected; a block's own header has about 250 bytes."""


class Block(NamedTuple):
    """A block opened for reading."""

    path: Path
    keys: NDArray[np.bytes_]
    """S16 [N]."""
    vectors: FloatMatrix
    """float32 [N, D], mapped into memory."""
    mapped: mmap.mmap | None = None
    """The mapped file; None if the vectors are an array."""

    def release(self) -> None:
        """Drop the pages that were read from the process's memory; the next access maps them again."""
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


class InvalidBlockError(Exception):
    """The file is not a valid block; the message gives the reason."""


def write_block(path: Path, keys: NDArray[np.bytes_], vectors: FloatMatrix) -> None:
    """Write a block and sync it to disk before returning.

    Raises:
        StoreFullError: the disk is full; the temporary file is removed.
        StoreError: any other error of the file system.
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
        if is_full(error):
            raise StoreFullError(
                f"no space left for the vector cache {path.parent}; free some space and run the command again"
            ) from error
        raise StoreError(f"cannot write to the vector cache {path.parent}: {error.strerror}") from error


def open_block(path: Path) -> Block:
    """Memory-map a block and validate it.

    Raises:
        InvalidBlockError: the file is truncated, corrupt or not a block.
    """
    header, start = _header(path)
    try:
        if header["__metadata__"]["format"] != FORMAT:
            raise InvalidBlockError("its format is unknown")
        mapped = _mapped(path)
        keys = _tensor(mapped, header["keys"], start, "U8", np.uint8)
        vectors = _tensor(mapped, header["vectors"], start, "F32", np.float32)
        checksum = header["__metadata__"]["crc32"]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidBlockError(f"its header is invalid ({error})") from error
    if keys.ndim != 2 or keys.shape[1] != KEY_BYTES or vectors.ndim != 2 or len(vectors) != len(keys):
        raise InvalidBlockError(f"its arrays have the shapes {keys.shape} and {vectors.shape}")
    if _checksum(keys, vectors) != checksum:
        raise InvalidBlockError("its checksum does not match")
    block = Block(path, np.frombuffer(keys.tobytes(), dtype=f"S{KEY_BYTES}"), vectors, mapped)
    block.release()
    return block


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= _MAX_HEADER_BYTES:
            raise InvalidBlockError("it has no safetensors header")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise InvalidBlockError("its header is not valid JSON") from error
    if not isinstance(header, dict):
        raise InvalidBlockError("its header is not a JSON object")
    end = 8 + length + max((entry["data_offsets"][1] for name, entry in _tensors(header)), default=0)
    if path.stat().st_size != end:
        raise InvalidBlockError(f"it has {path.stat().st_size} bytes; its header specifies {end}")
    return header, 8 + length


def _tensors(header: dict[str, Any]) -> list[tuple[str, Any]]:
    found = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    if not all(isinstance(entry, dict) and len(entry.get("data_offsets", ())) == 2 for _, entry in found):
        raise InvalidBlockError("its header has entries that are not tensors")
    return found


def _tensor(mapped: mmap.mmap, entry: dict[str, Any], start: int, stored: str, dtype: type) -> NDArray[Any]:
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = entry["data_offsets"]
    if entry["dtype"] != stored or end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError("dtype, shape and offsets are inconsistent")
    return np.frombuffer(mapped, dtype, math.prod(shape), start + begin).reshape(shape)


def _checksum(keys: NDArray[np.uint8], vectors: FloatMatrix) -> str:
    return f"{zlib.crc32(vectors.data, zlib.crc32(keys.data)):08x}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
