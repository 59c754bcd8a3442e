"""Read an input in blocks of bounded size, decompressing gzip and zstd.

The first bytes decide whether the input is compressed. Truncated or damaged data yields everything that could be
decompressed and then raises `BrokenInputError`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pyarrow as pa

_BLOCK = 1 << 20
"""Size of a block, in bytes."""
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
"""The last three bytes of the magic number of a zstd frame of metadata; the first is 0x50 to 0x5f."""
_NEVER_IN_TEXT = b"\xff"
"""A byte that UTF-8 never has."""
_GZIP_WINDOW = 31
"""zlib's window size for the gzip format."""
_MAX_RATIO = 100
"""Highest accepted ratio of decompressed to compressed bytes; rollouts have 3 to 20, and gzip reaches 1,032."""
_MAX_ZSTD_RATIO = 1_000
"""The same for zstd, whose window spans the prompts of a group: 64 short answers to a long prompt reach 400."""
_FREE_BYTES = 4 * 2**20
"""Decompressed bytes up to which the ratio is not checked."""


class BrokenInputError(Exception):
    """The input is truncated or damaged from here on."""


def read_blocks(file: BinaryIO, consumed: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the decompressed content of `file`.

    Args:
        consumed: called with the number of bytes of each read, before decompression.

    Raises:
        BrokenInputError: raised after the last good block of broken compressed data.
    """

    def raw() -> Iterator[bytes]:
        while block := file.read(_BLOCK):
            consumed(len(block))
            yield block

    blocks = raw()
    first = next(blocks, b"")
    while len(first) < len(_ZSTD_MAGIC) and (more := next(blocks, b"")):
        first += more
    if first.startswith(_ZSTD_MAGIC) or (first[1:4] == _ZSTD_SKIPPABLE and first[0] >> 4 == 5):
        yield from _from_zstd(first, blocks)
    elif first.startswith(_GZIP_MAGIC):
        yield from _decompressed(first, blocks)
    else:
        yield first
        yield from blocks


class _Compressed:
    """The part of a file object that Arrow reads from: compressed bytes, counted."""

    closed = False

    def __init__(self, first: bytes, blocks: Iterator[bytes]) -> None:
        self.count = 0
        self._rest = first
        self._blocks = blocks

    def close(self) -> None:
        """Nothing to do: the file is closed by its owner."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while not self._rest and (block := next(self._blocks, b"")):
            self._rest = block
        data, self._rest = self._rest[:size], self._rest[size:]
        self.count += len(data)
        return data


def _from_zstd(first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress all frames of zstd data.

    Arrow does not say how much of a block it has filled when the data ends too early. The block is filled before with a
    byte that no text has, so that the end of what was decompressed is known.
    """
    compressed, decompressed = _Compressed(first, blocks), 0
    block, empty = bytearray(_BLOCK), _NEVER_IN_TEXT * _BLOCK
    with pa.CompressedInputStream(pa.PythonFile(compressed, "r"), "zstd") as stream:
        while True:
            block[:] = empty
            try:
                out = bytes(memoryview(block)[: stream.readinto(block)])
            except (OSError, pa.ArrowException) as error:
                yield bytes(block).rstrip(_NEVER_IN_TEXT)
                raise BrokenInputError(f"the zstd data is truncated or damaged ({error})") from error
            if not out:
                return
            decompressed += len(out)
            if decompressed > _FREE_BYTES + _MAX_ZSTD_RATIO * compressed.count:
                raise BrokenInputError(
                    f"the zstd data expands more than {_MAX_ZSTD_RATIO:,}-fold, which rollouts do not; if the file is "
                    "right, decompress it first with zstd -d"
                )
            yield out


def _decompressed(data: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress all members of a gzip; only zeros may follow the last."""
    compressed, decompressed = len(data), 0

    def counted(blocks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal compressed
        for block in blocks:
            compressed += len(block)
            yield block

    blocks = counted(blocks)
    while data:
        member = zlib.decompressobj(_GZIP_WINDOW)
        while not member.eof:
            try:
                out = member.decompress(data, _BLOCK)
            except zlib.error as error:
                raise BrokenInputError(f"the gzip data is damaged ({error})") from error
            if out:
                decompressed += len(out)
                if decompressed > _FREE_BYTES + _MAX_RATIO * compressed:
                    raise BrokenInputError(
                        f"the gzip data expands more than {_MAX_RATIO}-fold, which rollouts do not; if the file is "
                        "right, decompress it first with gunzip"
                    )
                yield out
            data = member.unconsumed_tail
            if not data and not member.eof and not (data := next(blocks, b"")):
                # An empty input flushes what zlib has buffered.
                if rest := member.decompress(b"", _BLOCK):
                    yield rest
                    continue
                raise BrokenInputError("the gzip file is truncated")
        data = member.unused_data.lstrip(b"\0")
        while not data and (block := next(blocks, b"")):
            data = block.lstrip(b"\0")
        if data and not data.startswith(_GZIP_MAGIC[: len(data)]):
            raise BrokenInputError("unexpected data follows the gzip data")
