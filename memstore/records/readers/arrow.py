"""Read Arrow files (Feather version 2) and Arrow streams, as `datasets` writes them, batch by batch.

The buffers of a batch may be compressed. Each gives its size before the data, so that a file that would expand too much
is refused before anything is decompressed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from memstore.errors import InputError
from memstore.records.readers.source import name_of, stem_of
from memstore.records.readers.tables import (
    FREE_BYTES,
    MAX_RATIO,
    batch_rows,
    brief,
    check_columns,
    decoded_bytes,
)
from memstore.records.record import Row

FILE_MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SIZE_BYTES = 8
"""Bytes before a compressed buffer that give its size."""
_SCANNED = 2**20
"""Bytes that are searched at a time for compressed buffers."""
_BATCH = 2_000
_BATCH_BYTES = 128 * 2**20
"""Decoded bytes of the rows that are converted together."""


class ArrowSource:
    """The rows of an Arrow file or stream; see `memstore.records.readers.RowSource`. Row numbers start at 1.

    Args:
        columns: sets of columns, of which the table must have one; none accepts any table.
        content: the content of the file if it does not lie on the disk, as in an archive.

    Raises:
        InputError: the file cannot be read, expands too much, or lacks the columns of a rollout.
    """

    def __init__(
        self, path: Path, *, size: int, columns: Sequence[Sequence[str]] = (), content: bytes | None = None
    ) -> None:
        self.name = name_of(path)
        self.stem = stem_of(path)
        self.size: int | None = size
        self._path = path
        self._content = content
        self._position = 0
        if self._claimed_bytes() > FREE_BYTES + MAX_RATIO * size:
            raise InputError(f"{path} expands more than {MAX_RATIO}-fold, which rollouts do not; write it uncompressed")
        with self._open() as reader:
            check_columns(path, reader.schema.names, columns)

    def position(self) -> int:
        """Bytes consumed so far: all of them once a file is read."""
        return self._position

    def __iter__(self) -> Iterator[Row]:
        """The rows; see `RowSource`."""
        self._position = number = decoded = 0
        try:
            for batch in self._batches():
                decoded += sum(map(decoded_bytes, batch.columns))
                if decoded > FREE_BYTES + MAX_RATIO * (self.size or 0):
                    yield Row(number + 1, None, f"reading ended here: the file expands more than {MAX_RATIO}-fold")
                    return
                for row in batch_rows(batch):
                    number += 1
                    yield row._replace(number=number)
        except (OSError, pa.ArrowException) as error:
            yield Row(number + 1, None, f"the Arrow file is damaged from this row on ({brief(error)})")
            return
        self._position = self.size or 0
        if number == 0:
            raise InputError(f"{self._path} is empty; it must contain one rollout a row")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """The batches, cut so that each decodes to `_BATCH_BYTES` or one row."""
        with self._open() as reader:
            if isinstance(reader, pa.RecordBatchFileReader):
                whole: Iterator[pa.RecordBatch] = map(reader.get_batch, range(reader.num_record_batches))
            else:
                whole = iter(reader)
            for batch in whole:
                row_bytes = sum(map(decoded_bytes, batch.columns)) / max(1, batch.num_rows)
                step = max(1, min(_BATCH, int(_BATCH_BYTES / max(1.0, row_bytes))))
                for start in range(0, batch.num_rows, step):
                    yield batch.slice(start, step)

    def _open(self) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
        try:
            # Not a memory map: reading one of a file that is cut meanwhile kills the process.
            source = pa.OSFile(str(self._path)) if self._content is None else pa.BufferReader(self._content)
            is_file = source.read(len(FILE_MAGIC)) == FILE_MAGIC
            source.seek(0)
            return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self._path} is not a readable Arrow file: {brief(error)}; copy or write it again"
            ) from error

    def _claimed_bytes(self) -> int:
        """The sizes that zstd buffers give for themselves. LZ4, the other codec, expands 255-fold at most."""
        with self._path.open("rb") if self._content is None else io.BytesIO(self._content) as file:
            return _sizes_before_zstd(file)


def _sizes_before_zstd(file: BinaryIO) -> int:
    total, before = 0, b""
    unfinished = len(_ZSTD_MAGIC) - 1
    while block := file.read(_SCANNED):
        content = before + block
        at = content.find(_ZSTD_MAGIC, max(0, len(before) - unfinished))
        while at >= 0:
            size = int.from_bytes(content[max(0, at - _SIZE_BYTES) : at], "little", signed=True)
            # Bytes inside of texts that look like a frame give a size that no buffer can have.
            total += size if 0 < size < 2**40 else 0
            at = content.find(_ZSTD_MAGIC, at + 1)
        before = content[-_SIZE_BYTES - unfinished :]
    return total
