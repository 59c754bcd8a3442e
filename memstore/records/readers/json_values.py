"""Read a JSON array of objects, or objects that stand one behind another over several lines, value by value.

Only one value is held in memory at a time.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from memstore.records.readers.blocks import BrokenInputError
from memstore.records.record import Row

MAX_VALUE = 256 * 2**20
"""Longest accepted value, in characters."""
_SPACE = re.compile(r"[\s,]*")
KINDS = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "true or false"}
"""Names of JSON values that are no objects, by type; the remaining one is null."""


def json_rows(blocks: Iterator[bytes]) -> Iterator[Row]:
    """The objects of an array, or of a sequence of objects, numbered from 1. Reading ends at the first syntax error."""
    text = _Text(blocks)
    number = 0
    try:
        in_array = text.peek() == "["
        text.position += in_array
        while (first := text.peek()) and not (in_array and first == "]"):
            number += 1
            value, reason = text.value()
            if reason is not None:
                yield Row(number, None, reason, text.buffer[text.position : text.position + 10_000])
                return
            if isinstance(value, dict):
                yield Row(number, value)
            else:
                yield Row(number, None, f"the value is {KINDS.get(type(value), 'null')}, not an object")
        text.position += in_array
        if in_array and (not first or text.peek()):
            yield Row(
                number + 1, None, "the JSON array has no end" if not first else "more text follows the JSON array"
            )
    except UnicodeDecodeError:
        yield Row(number + 1, None, "the file is not UTF-8 from this value on")
    except BrokenInputError as error:
        yield Row(number + 1, None, str(error))


class _Text:
    """The text of the blocks that was read and not yet parsed: `buffer` from `position` on."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.buffer = ""
        self.position = 0
        self._blocks = blocks
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_int=integer_or_text)

    def peek(self) -> str:
        """The next character behind white space and commas; empty at the end."""
        while True:
            found = _SPACE.match(self.buffer, self.position)
            self.position = found.end() if found else self.position
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if not self._more():
                return ""

    def value(self) -> tuple[Any, str | None]:
        """The next value, or the reason why it cannot be parsed."""
        while True:
            try:
                value, end = self._json.raw_decode(self.buffer, self.position)
            except RecursionError:
                return None, "the value is nested too deeply"
            except json.JSONDecodeError as error:
                # The value may go on in the next block.
                if self._more():
                    continue
                where = error.pos - self.position + 1
                return None, f"the value is not JSON: {error.msg} at its character {where:,}; reading ended here"
            if end < len(self.buffer) or not self._more():
                self.position = end
                return value, None

    def _more(self) -> bool:
        """Read on until the unparsed text has doubled; False at the end, or if a value is too long."""
        pending = len(self.buffer) - self.position
        if pending > MAX_VALUE:
            return False
        parts: list[str] = []
        while sum(map(len, parts)) <= pending and (block := next(self._blocks, None)) is not None:
            parts.append(self._decoder.decode(block))
        if not any(parts):
            return False
        self.buffer, self.position = self.buffer[self.position :] + "".join(parts), 0
        return True


def integer_or_text(digits: str) -> int | str:
    """An integer; one with more digits than Python converts stays text."""
    try:
        return int(digits)
    except ValueError:
        return digits
