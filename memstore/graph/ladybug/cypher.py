"""A user's Cypher on LadybugDB: read-only by default, with a time limit, one statement per call.

A read-only transaction refuses to change the graph, but still writes files (COPY ... TO), reads them (LOAD FROM,
CALL read_csv...) and changes connection settings. A read-only query must therefore also begin with a reading clause and
may call only functions that inspect the graph. LadybugDB refuses to prepare two statements at once, so a COMMIT cannot
end the read-only transaction.

Values become plain Python: str, int, float, bool, None, datetime (UTC), list, dict. A node or relationship becomes the
dict of its non-null properties.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from ladybug.prepared_statement import PreparedStatement

from memstore.errors import InputError, MemstoreError, QueryTimeout, StoreError
from memstore.graph.ladybug.errors import one_line

_TOKENS = re.compile(
    r"//[^\n]*|/\*.*?\*/"  # comments
    r"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`"  # texts and quoted names
    r"|\$\w+|\w+|\S",
    re.DOTALL,
)
_READING = {"MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL"}
_LOOKING = re.compile(r"show_\w+|\w+_info|current_setting|db_version|storage_version|catalog_version", re.IGNORECASE)
_PARAMETER = re.compile("Unable to cast Python|parameter type|Python object|with ANY type|UNREACHABLE_CODE")
_WRITES = "write query inside a read-only transaction"
READ_ONLY = "this query {}, and here the memory is only read; pass --write (write=True) if it is meant to"


class _Statement(PreparedStatement):  # type: ignore[misc]
    """A prepared statement without a traceback at deletion, which LadybugDB's prints if preparing failed."""

    _prepared_statement: Any = None


def run(
    connection: Any, query: str, parameters: Mapping[str, Any], *, write: bool, timeout_s: float | None
) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Columns and rows; see `GraphStore.cypher`. The connection serves only this query and must outlive the rows."""
    tokens = _tokens(query)
    _check_parameters(tokens, parameters)
    if not write:
        check_reads_only(tokens)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    if timeout_s is not None:
        connection.set_query_timeout(max(1, round(timeout_s * 1000)))
    try:
        if not write:
            connection.execute("BEGIN TRANSACTION READ ONLY")
        statement = _Statement(connection, query, dict(parameters))
        if not statement.is_success():
            raise RuntimeError(statement.get_error_message())
        result = connection.execute(statement, dict(parameters))
    except (RuntimeError, ValueError) as error:
        raise _translate(error, timeout_s) from error
    if isinstance(result, list):
        raise InputError("several statements were given; run one at a time")
    return result.get_column_names(), _rows(result, deadline, timeout_s)


def check_reads_only(tokens: list[str]) -> None:
    """Refuse statements with side effects that a read-only transaction permits.

    Raises:
        InputError: the query may do more than read.
    """
    words = [token.upper() for token in tokens]
    while words and words[0] in ("EXPLAIN", "PROFILE"):
        words = words[1:]
    if words and words[0] not in _READING:
        raise InputError(READ_ONLY.format(f"begins with {words[0]}"))
    for word, following, after in zip(words, [*words[1:], ""], [*words[2:], "", ""], strict=False):
        if word == "LOAD" and following in ("FROM", "WITH"):
            raise InputError(READ_ONLY.format("reads a file"))
        if word == "CALL" and (not _LOOKING.fullmatch(following) or after != "("):
            raise InputError(READ_ONLY.format(f"calls {following.lower() or 'nothing'}"))


def _tokens(query: str) -> list[str]:
    return [token for token in _TOKENS.findall(query) if not token.startswith(("//", "/*"))]


def _check_parameters(tokens: list[str], parameters: Mapping[str, Any]) -> None:
    """Refuse a missing parameter, which LadybugDB treats as null."""
    for token in tokens:
        if token[0] == "$" and len(token) > 1 and token[1:] not in parameters:
            raise InputError(f"the query uses {token}, but no such parameter was given")


def _rows(result: Any, deadline: float | None, timeout_s: float | None) -> Iterator[tuple[Any, ...]]:
    try:
        while result.has_next():
            if deadline is not None and time.monotonic() > deadline:
                raise _timeout(timeout_s)
            yield tuple(plain(value) for value in result.get_next())
    except RuntimeError as error:
        raise StoreError(f"the rows of this query can no longer be read: {one_line(error)}") from error


def plain(value: Any) -> Any:
    """A value of a result as a plain Python value."""
    if isinstance(value, dict):
        return _plain_dict(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    if "_NODES" in value and "_RELS" in value:
        return {"nodes": plain(value["_NODES"]), "relationships": plain(value["_RELS"])}
    if "_LABEL" in value and "_ID" in value:
        return {key: plain(item) for key, item in value.items() if not key.startswith("_") and item is not None}
    return {str(key): plain(item) for key, item in value.items()}


def _translate(error: Exception, timeout_s: float | None) -> MemstoreError:
    text = str(error)
    if _WRITES in text:
        return InputError(READ_ONLY.format("writes"))
    if text.startswith("Interrupted"):
        return _timeout(timeout_s)
    if "Buffer manager exception" in text:
        return StoreError("the query needs more memory than the graph's buffer pool has; match less, or add a LIMIT")
    if isinstance(error, ValueError) or _PARAMETER.search(text):
        return InputError(f"a parameter of the query cannot be passed to the graph: {one_line(error)}")
    if "do not support prepare multiple statements" in text:
        return InputError("several statements were given; run one at a time")
    return InputError(f"the query cannot be run: {one_line(error)}")


def _timeout(timeout_s: float | None) -> QueryTimeout:
    return QueryTimeout(f"the query ran past its limit of {timeout_s:g} s; match less, or allow more time")
