"""Read YAML lists of objects, as ART writes its groups of trajectories, item by item.

Only the types of JSON are read, by PyYAML's safe loader: a tag of Python is refused. One item is held in memory at a
time, besides the nodes that have an anchor, since an alias in a later item may refer to them. What aliases expand to,
the nesting, and the length of an item are bounded.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.composer import Composer

from memstore.records.readers.blocks import BrokenInputError
from memstore.records.readers.json_values import KINDS, MAX_VALUE
from memstore.records.record import Row

MAX_DEPTH = 100
"""Deepest accepted nesting; ART's trajectories have about ten levels."""
MAX_RATIO = 100
"""Highest accepted ratio of the expanded items to the bytes read; ART repeats the messages that a group shares."""
FREE_SIZE = 2**20
"""Expanded size, in characters, up to which the ratio is not checked."""
MAX_PLAIN = 100
"""Longest accepted number or date, in characters."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"
_COLLECTIONS = (_PREFIX + "map", _PREFIX + "seq")


class _RefusedError(Exception):
    """The rest of the file is not read."""


def yaml_rows(blocks: Iterator[bytes]) -> Iterator[Row]:
    """The items of the lists in a YAML stream, numbered by their lines. Reading ends at the first syntax error."""
    items = _Items(_Source(blocks))
    try:
        yield from items.rows()
    except (BrokenInputError, _RefusedError) as error:
        yield Row(items.line, None, str(error))
    except yaml.YAMLError as error:
        yield Row(items.line, None, f"the file is not YAML from this item on: {_brief(error)}; reading ended here")


class _Source:
    """The part of a file object that the parser reads from."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.count = 0
        self.limit = 0
        """Bytes that may be read; the parser reads ahead."""
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        if not self._rest:
            self._rest = next(self._blocks, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        self.count += len(data)
        if self.count > self.limit:
            raise _RefusedError(f"the item is longer than {MAX_VALUE // 2**20} MB; reading ended here")
        return data


class _Items(Composer):  # type: ignore[misc]
    """The items of a YAML stream."""

    def __init__(self, source: _Source) -> None:
        super().__init__()
        source.limit = MAX_VALUE
        self.line = 1
        """The line of the item that is read."""
        self._source = source
        self._depth = 0
        self._composed = self._anchored = self._expanded = 0

    def rows(self) -> Iterator[Row]:
        """The rows of all documents. A document that is no list is one row."""
        self._loader = _LOADER(self._source)
        for name in ("check_event", "peek_event", "get_event", "resolve", "descend_resolver", "ascend_resolver"):
            setattr(self, name, getattr(self._loader, name))
        self.get_event()
        while not self.check_event(yaml.StreamEndEvent):
            self.get_event()
            if self.check_event(yaml.SequenceStartEvent):
                self.get_event()
                while not self.check_event(yaml.SequenceEndEvent):
                    yield self._row()
                self.get_event()
            else:
                yield self._row()
            self.get_event()
            self.anchors.clear()

    def _row(self) -> Row:
        self.line = self.peek_event().start_mark.line + 1
        self._source.limit = self._source.count + MAX_VALUE
        node = self.compose_node(None, None)
        try:
            value = self._value(node, 0)
        except (yaml.YAMLError, ValueError) as error:
            return Row(self.line, None, f"the item has a value that is not read: {_brief(error)}")
        if isinstance(value, dict):
            return Row(self.line, value)
        return Row(self.line, None, f"the item is {KINDS.get(type(value), 'null')}, not an object")

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node; see `Composer`. An alias is the node that it refers to."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _RefusedError(f"the item has over {MAX_DEPTH} levels; reading ended here")
        anchored, before = getattr(self.peek_event(), "anchor", None), self._composed
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias:
            self._composed += 1 + (len(node.value) if node.id == "scalar" else 0)
            self._anchored += self._composed - before if anchored else 0
            if self._anchored > MAX_VALUE:
                raise _RefusedError(f"the anchors hold over {MAX_VALUE // 2**20} MB; reading ended here")
        return node

    def _value(self, node: Any, depth: int) -> Any:
        """The value of a node, in which aliases are expanded."""
        if depth > MAX_DEPTH:
            raise ValueError("an alias that refers to itself, or to too many levels")
        self._expanded += 1 + (len(node.value) if node.id == "scalar" else 0)
        if self._expanded > FREE_SIZE + MAX_RATIO * self._source.count:
            raise _RefusedError(
                f"the aliases expand the file more than {MAX_RATIO}-fold, which rollouts do not; reading ended here"
            )
        if node.id == "scalar":
            return self._scalar(node)
        if node.tag not in _COLLECTIONS:
            raise ValueError(f"the tag {node.tag.replace(_PREFIX, '!!')!r:.100}")
        if node.id == "sequence":
            return [self._value(item, depth + 1) for item in node.value]
        return {str(self._value(key, depth + 1)): self._value(value, depth + 1) for key, value in node.value}

    def _scalar(self, node: Any) -> Any:
        if node.tag == _PREFIX + "str":
            return node.value
        if len(node.value) > MAX_PLAIN:
            raise ValueError(f"a number of {len(node.value):,} characters")
        value = self._loader.construct_document(node)
        if isinstance(value, dt.date):
            return value.isoformat()
        if value is not None and not isinstance(value, bool | int | float | str):
            raise ValueError(f"the tag {node.tag.replace(_PREFIX, '!!')!r:.100}")
        return value


def _brief(error: Exception) -> str:
    """The problem of an error and its line, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error).replace(_PREFIX, "!!").partition("\n")[0]
    return f"{problem:.200}" + (f" (line {mark.line + 1:,})" if mark else "")
