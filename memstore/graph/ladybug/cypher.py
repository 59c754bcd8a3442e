"""A user's Cypher on LadybugDB: read-only by default, with a time limit, one statement per call.

A database that is opened read-only refuses to change the graph, but still writes files (COPY ... TO), reads them (LOAD
FROM, CALL read_csv...) and changes connection settings. A read-only query must therefore also begin with a reading
clause and may call only functions that inspect the graph. LadybugDB refuses to prepare two statements at once.

`queries` runs the query in a process of its own, which keeps the limits of time and memory.

Values become plain Python: str, int, float, bool, None, datetime (UTC), list, dict. A node or relationship becomes the
dict of its non-null properties.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from memstore.errors import InputError, MemstoreError, QueryTimeout, StoreError, WriteRefused
from memstore.graph.cypher_result import check_names
from memstore.graph.ladybug.cypher_hints import explain
from memstore.graph.ladybug.errors import one_line
from memstore.graph.ladybug.parameters import with_parameters
from memstore.graph.nesting import check_nesting

_TOKENS = re.compile(
    r"//[^\n]*|/\*.*?\*/"  # comments
    r"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`"  # texts and quoted names
    r"|\$\w+|\w+|\S",
    re.DOTALL,
)
_READING = {"MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL"}
_LOOKING = re.compile(r"show_\w+|\w+_info|current_setting|db_version|storage_version|catalog_version", re.IGNORECASE)
_PARAMETER = re.compile("Unable to cast Python|parameter type|Python object|with ANY type|UNREACHABLE_CODE")
_ALIAS = re.compile(r"\bAS\s+(\w+|`[^`]*`)$", re.IGNORECASE)
_WRITES = "Cannot execute write operations in a read-only database"
TOO_MUCH_MEMORY = (
    "the query was ended because it needs more memory than a query may use, or LadybugDB crashed on it; "
    "match less, or add a LIMIT"
)


def check(query: str, parameters: Mapping[str, Any], *, write: bool) -> None:
    """Refuse a query before it is run.

    Raises:
        InputError: a parameter is missing, the query uses a construct that LadybugDB lacks, its brackets are nested too
            deep, two of its columns have one name, or it does more than read and `write` is False.
    """
    tokens = _tokens(query)
    check_nesting(tokens)
    _check_parameters(tokens, parameters)
    _check_calls(tokens)
    _check_names(query)
    if not write:
        check_reads_only(tokens)


def as_ladybug_takes_it(query: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The query and its parameters as LadybugDB takes them.

    Raises:
        InputError: a parameter cannot be passed.
    """
    text, passed = with_parameters(_TOKENS, query, parameters)
    return with_quoted_types(text), passed


def with_quoted_types(query: str) -> str:
    """The query with `IN` in backquotes where it is a relationship type: LadybugDB reads it as a keyword there."""
    parts, end, before = [], 0, ""
    for token in _TOKENS.finditer(query):
        if before in (":", "|") and token[0].upper() == "IN":
            parts += [query[end : token.start()], "`IN`"]
            end = token.end()
        if not token[0].startswith(("//", "/*")):
            before = token[0]
    return "".join([*parts, query[end:]])


def _check_calls(tokens: list[str]) -> None:
    """Refuse subqueries and procedures, for which LadybugDB reports a syntax error only."""
    for word, following, after in zip(tokens, [*tokens[1:], ""], [*tokens[2:], "", ""], strict=False):
        if word.upper() != "CALL":
            continue
        if following in ("{", "("):
            raise InputError(
                "an embedded memory has no subqueries with CALL { ... }; "
                "use WITH, COUNT { MATCH ... } or EXISTS { MATCH ... } instead"
            )
        if after == ".":
            raise InputError(
                f"an embedded memory has no procedures such as {following}.*; "
                "CALL show_tables() RETURN * lists its labels and relationship types"
            )


def check_reads_only(tokens: list[str]) -> None:
    """Refuse statements with side effects that a read-only transaction permits.

    Raises:
        WriteRefused: the query may do more than read.
    """
    words = [token.upper() for token in tokens]
    while words and words[0] in ("EXPLAIN", "PROFILE"):
        words = words[1:]
    if words and words[0] not in _READING:
        raise WriteRefused(f"this query begins with {words[0]}")
    for word, following, after in zip(words, [*words[1:], ""], [*words[2:], "", ""], strict=False):
        if word == "LOAD" and following in ("FROM", "WITH"):
            raise WriteRefused("this query reads a file")
        if word == "CALL" and (not _LOOKING.fullmatch(following) or after != "("):
            raise WriteRefused(f"this query calls {following.lower() or 'nothing'}")


def _tokens(query: str) -> list[str]:
    return [token for token in _TOKENS.findall(query) if not token.startswith(("//", "/*"))]


def _check_parameters(tokens: list[str], parameters: Mapping[str, Any]) -> None:
    """Refuse a missing parameter, which LadybugDB treats as null."""
    for token in tokens:
        if token[0] == "$" and len(token) > 1 and token[1:] not in parameters:
            raise InputError(f"the query uses {token}, but no such parameter was given")


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


def translate(kind: str, message: str, query: str, timeout_s: float | None) -> MemstoreError:
    """The store error for a failed query.

    Args:
        kind: name of the exception type; LadybugDB itself raises only RuntimeError.
        message: text of the exception.
    """
    line = one_line(message)
    if _WRITES in message:
        return WriteRefused("this query writes")
    if message.startswith("Interrupted"):
        return timeout(timeout_s)
    if "bad_alloc" in message:
        return StoreError(TOO_MUCH_MEMORY)
    if "Buffer manager exception" in message:
        return StoreError("the query needs more memory than the graph's buffer pool has; match less, or add a LIMIT")
    if kind != "RuntimeError" or _PARAMETER.search(message):
        return InputError(f"a parameter of the query cannot be passed to the graph: {line}")
    if "do not support prepare multiple statements" in message:
        return InputError("several statements were given; run one at a time")
    return InputError(f"the query cannot be run: {explain(line, query)}")


def timeout(timeout_s: float | None) -> QueryTimeout:
    """The error for a query that ran past its time limit."""
    return QueryTimeout(f"the query ran past its limit of {timeout_s:g} s; match less, or allow more time")


def column_names(query: str, columns: list[str]) -> list[str]:
    """Name the columns as the query wrote them; LadybugDB names `count(*)` after its own function, COUNT_STAR().

    The names of LadybugDB are kept where the query returns `*` or they cannot be assigned.

    Raises:
        InputError: two columns have one name.
    """
    items = _returned(query)
    if len(items) == len(columns) and "*" not in items:
        named = [_ALIAS.search(item) for item in items]
        columns = [column if alias else item for column, item, alias in zip(columns, items, named, strict=True)]
    check_names(columns)
    return columns


def _check_names(query: str) -> None:
    """Refuse two columns of one name before the query writes."""
    items = [item for item in _returned(query) if item != "*"]
    named = [_ALIAS.search(item) for item in items]
    check_names([alias[1].strip("`") if alias else item for item, alias in zip(items, named, strict=True)])


def _returned(query: str) -> list[str]:
    """The items of the first RETURN outside of brackets, as text."""
    found, depth, start, end, items = False, 0, 0, 0, []
    for match in _TOKENS.finditer(query):
        token = match[0]
        word = token.upper()
        if token.startswith(("//", "/*")):
            continue
        last, end = end, match.end()
        depth += (token in "([{") - (token in ")]}")
        if depth:
            continue
        if not found:
            found, start = word == "RETURN", end
        elif word == "DISTINCT" and not query[start : match.start()].strip():
            start = end
        elif token == ",":
            items.append(query[start:last].strip())
            start = end
        elif word in ("ORDER", "SKIP", "LIMIT", "UNION", ";"):
            return [*items, query[start:last].strip()]
    return [*items, query[start:end].strip()] if found else []
