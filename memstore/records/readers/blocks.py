"""Read an input in blocks of bounded size, decompressing gzip.

The first two bytes decide whether the input is gzip. A truncated or damaged gzip yields everything that could be
decompressed and then raises `BrokenInputError`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

_BLOCK = 1 << 20
"""Size of a block, in bytes."""
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31
"""zlib's window size for the gzip format."""
_MAX_RATIO = 100
"""Highest accepted ratio of decompressed to compressed bytes; rollouts have 3 to 20, and gzip reaches 1,032."""
_FREE_BYTES = 4 * 2**20
"""Decompressed bytes up to which the ratio is not checked."""


class BrokenInputError(Exception):
    """The input is truncated or damaged from here on."""


def read_blocks(file: BinaryIO, consumed: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the decompressed content of `file`.

    Args:
        consumed: called with the number of bytes of each read, before decompression.

    Raises:
        BrokenInputError: raised after the last good block of a broken gzip.
    """

    def raw() -> Iterator[bytes]:
        while block := file.read(_BLOCK):
            consumed(len(block))
            yield block

    blocks = raw()
    first = next(blocks, b"")
    while len(first) == 1 and (more := next(blocks, b"")):
        first += more
    if first.startswith(_GZIP_MAGIC):
        yield from _decompressed(first, blocks)
    else:
        yield first
        yield from blocks


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
