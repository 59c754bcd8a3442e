"""`memstore cypher`: ask the graph, with a query of one's own or a named one."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore_cli.opening import opened
from memstore_cli.options import JsonOption, UsageError, need_memory
from memstore_cli.output import counted, jsonable, print_json, print_table

if TYPE_CHECKING:
    from memstore_schema.queries import NamedQuery

ROWS = 50
SECONDS = 30.0


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def cypher(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", show_default=False, help="Cypher.")] = None,
    named: Annotated[
        str | None,
        typer.Option("--query", metavar="NAME", show_default=False, help="A named query instead; see --list."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=VALUE",
            show_default=False,
            help="A parameter of the query ($KEY); the value is read as JSON, else as text. May be repeated.",
        ),
    ] = None,
    list_queries: Annotated[
        bool, typer.Option("--list", help="Show the named queries and their text; needs no memory.")
    ] = False,
    memory: Annotated[
        str,
        typer.Option(
            "--memory",
            envvar="MEMSTORE_MEMORY",
            metavar="LOCATION",
            show_default=False,
            help="The memory, as for other verbs; needed here or in the environment, save for --list.",
        ),
    ] = "",
    write: Annotated[bool, typer.Option("--write", help="Allow the query to change the graph.")] = False,
    output: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.TABLE,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds after which the query ends.")
    ] = SECONDS,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows of a table; JSON and CSV have all.")] = ROWS,
    as_json: JsonOption = False,
) -> None:
    """Ask the graph in Cypher; read-only unless --write.

    A named query answers what one asks most: memstore cypher --query NAME
    """
    wanted = Format.JSON if as_json else output
    if list_queries:
        _print_named_queries(wanted)
        return
    text, parameters = _the_query(query, named, param or [])
    with opened(need_memory(memory)) as store:
        result = store.cypher(text, parameters, write=write, timeout_s=timeout)
        rows = list(islice(result.rows, limit + 1) if wanted is Format.TABLE else result.rows)
    print_rows(result.columns, rows, wanted, limit)


def _the_query(query: str | None, named: str | None, pairs: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The text to run and its parameters."""
    if (query is None) == (named is None):
        raise UsageError("name one query: its text as the argument, or a named one with --query; see --list")
    given = dict(_pair(pair) for pair in pairs)
    if query is not None:
        return query, {key: _json_or_text(value) for key, value in given.items()}
    known = {entry.name: entry for entry in _named_queries()}
    if named not in known:
        raise UsageError(f"there is no named query {named!r}; there are {', '.join(known)}")
    entry = known[named]
    if unknown := sorted(set(given) - set(entry.parameters)):
        there = ", ".join(entry.parameters) or "none"
        raise UsageError(f"the query {named} has no parameter {unknown[0]!r}; it has {there}")
    # A default that is a text keeps a key like 42 from becoming a number.
    texts = {key for key, default in entry.parameters.items() if isinstance(default, str)}
    chosen = {key: value if key in texts else _json_or_text(value) for key, value in given.items()}
    return entry.text, {**entry.parameters, **chosen}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--param {text!r} is not KEY=VALUE, e.g. --param dataset=gsm8k")
    return key, value


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], wanted: Format, limit: int) -> None:
    """Print rows; a table has at most `limit` and says so when there are more."""
    if wanted is Format.JSON:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif wanted is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_csv_value(value) for value in row] for row in rows)
    else:
        print_table(columns, rows[:limit])
        cut = len(rows) > limit
        print(f"the first {counted(limit, 'row')}; --limit shows more" if cut else counted(len(rows), "row"))


def _csv_value(value: Any) -> Any:
    plain = jsonable(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, (dict, list)) else plain


def _named_queries() -> Sequence[NamedQuery]:
    from memstore_schema.queries import named_queries

    return named_queries()


def _print_named_queries(wanted: Format) -> None:
    queries = _named_queries()
    if wanted is not Format.TABLE:
        rows = [(query.name, query.question, dict(query.parameters), query.text) for query in queries]
        print_rows(("name", "question", "parameters", "text"), rows, wanted, len(rows))
        return
    for query in queries:
        defaults = ", ".join(f"{key}={json.dumps(value)}" for key, value in query.parameters.items())
        print(f"{query.name}: {query.question}")
        print(f"    parameters: {defaults}" if defaults else "    no parameters")
        print("\n".join(f"    {line}" for line in query.text.strip().splitlines()), end="\n\n")
