"""The files of a snapshot's folder, each written from its beginning to its end.

    TABLE.arrow, edges_NAME.arrow   Arrow IPC: node tables, and the properties of edges
    query_x.npy, thinking_x.npy, features.npy   float32 [N, D], memory-mapped when read
    arrays.safetensors   ends of edges, and which nodes have vectors and features
    manifest.json        origin, and the CRC-32 of every other file but those of reward models

A checksum is taken while its file is written, so that nothing is read again. Tables and matrices come in parts, so that
a snapshot may be larger than the memory of the process.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray
from safetensors.numpy import save

from memstore.graph.protocol import EdgeTable
from memstore.snapshots.snapshot import Manifest
from memstore.types import FloatMatrix

FORMAT = 2
"""Version of the folder's format; a newer one is refused. Format 1 had all arrays in one file, and SHA-256."""
MANIFEST = "manifest.json"
ARRAYS = "arrays.safetensors"
DIGESTS = "digests"
"""Key of the manifest: the checksum of every other file by name. Snapshots of memstore 0.1.0 lack it."""
MATRICES = ("query_x", "thinking_x", "features")
"""Matrices with a file of their own; a snapshot whose rollouts have no features lacks the last."""
_READ_BYTES = 2**20


class FolderWriter:
    """Writes the files of a snapshot to a folder."""

    def __init__(self, folder: Path) -> None:
        """Write nothing yet.

        Args:
            folder: an empty folder.
        """
        self._folder = folder
        self._arrays: dict[str, NDArray[Any]] = {}
        self._digests: dict[str, str] = {}

    def table(self, name: str, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
        """Write a table."""
        self._digests[f"{name}.arrow"] = _write_table(self._folder / f"{name}.arrow", schema, parts)

    def edges(self, name: str, edge: EdgeTable) -> None:
        """Write an edge table; its ends are kept until `finish`."""
        self.array(f"{name}.source", edge.source)
        self.array(f"{name}.target", edge.target)
        self.table(f"edges_{name}", edge.properties.schema, [edge.properties])

    def matrix(
        self, name: str, shape: tuple[int, ...], parts: Iterable[NDArray[Any]], dtype: DTypeLike = np.float32
    ) -> None:
        """Write one of `MATRICES`, whose parts are blocks of rows of this dtype."""
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        self._digests[f"{name}.npy"] = _write_matrix(self._folder / f"{name}.npy", header, parts)

    def array(self, name: str, values: NDArray[Any]) -> None:
        """Keep an array until `finish`."""
        self._arrays[name] = np.ascontiguousarray(values)

    def finish(self, manifest: Manifest) -> None:
        """Write the arrays and, last, the manifest."""
        self._digests[ARRAYS] = _write_arrays(self._folder / ARRAYS, self._arrays)
        content = {"format": FORMAT, **asdict(manifest), DIGESTS: dict(sorted(self._digests.items()))}
        (self._folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


class _DigestedFile(io.RawIOBase):
    """A new file, with the checksum of what was written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._checksum = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Any) -> int:
        self._checksum = zlib.crc32(data, self._checksum)
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()
        super().close()

    def digest(self) -> str:
        return f"{self._checksum:08x}"


def file_digest(path: Path) -> str:
    """The checksum of a file, as the manifest has it."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}"


def open_matrix(path: Path) -> FloatMatrix:
    """A matrix, mapped into memory. Changes of the array are not written to the file.

    Raises:
        ValueError: the file is no matrix, or shorter than it says.
    """
    mapped: FloatMatrix = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    return mapped


def _write_table(path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> str:
    with _DigestedFile(path) as file:
        with pa.ipc.new_file(file, schema) as writer:
            for part in parts:
                writer.write_table(part)
        return file.digest()


def _write_matrix(path: Path, header: dict[str, Any], parts: Iterable[NDArray[Any]]) -> str:
    with _DigestedFile(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        return file.digest()


def _write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> str:
    with _DigestedFile(path) as file:
        file.write(save(arrays))
        return file.digest()
