"""Bytes of an input in blocks of bounded size, gzip taken off.

Whether it is gzip is told by the first two bytes. A gzip that ends in the middle, or is damaged, gives all that
could be unpacked and then `BrokenInputError`: what was read before stays good.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

_BLOCK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31


class BrokenInputError(Exception):
    """The input breaks off here; the message says how."""


def read_blocks(file: BinaryIO, consumed: Callable[[int], None]) -> Iterator[bytes]:
    """The contents of `file`, unpacked.

    Args:
        consumed: told the number of bytes of each read, packed ones where it is gzip.

    Raises:
        BrokenInputError: after the last good block of a broken gzip.
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
        yield from _unpacked(first, blocks)
    else:
        yield first
        yield from blocks


def _unpacked(data: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """One gzip member after the other; nothing but zeros may follow the last."""
    while data:
        member = zlib.decompressobj(_GZIP_WINDOW)
        while not member.eof:
            try:
                out = member.decompress(data, _BLOCK)
            except zlib.error as error:
                raise BrokenInputError(f"the gzip data is damaged ({error})") from error
            if out:
                yield out
            data = member.unconsumed_tail
            if not data and not member.eof and not (data := next(blocks, b"")):
                # What zlib still holds back comes out with an empty read.
                if rest := member.decompress(b"", _BLOCK):
                    yield rest
                    continue
                raise BrokenInputError("the gzip file ends in the middle")
        data = member.unused_data.lstrip(b"\0")
        while not data and (block := next(blocks, b"")):
            data = block.lstrip(b"\0")
        if data and not data.startswith(_GZIP_MAGIC[: len(data)]):
            raise BrokenInputError("there is something else behind the end of the gzip data")
