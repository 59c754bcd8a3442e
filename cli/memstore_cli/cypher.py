"""`memstore cypher`: run a Cypher query, given as text or by name."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, OptionalMemoryOption, UsageError, need_memory
from memstore_cli.output import counted, jsonable, print_json, print_table

if TYPE_CHECKING:
    from memstore_schema.queries import NamedQuery

MAX_TABLE_ROWS = 50
TIMEOUT_S = 30.0


class Format(StrEnum):
    """Output format of the rows."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def cypher(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", show_default=False, help="Cypher query.")] = None,
    named: Annotated[
        str | None,
        typer.Option("--query", metavar="NAME", show_default=False, help="Run a named query instead; see --list."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=VALUE",
            show_default=False,
            help="Query parameter $KEY; the value is parsed as JSON if possible, else taken as text. Repeatable.",
        ),
    ] = None,
    list_queries: Annotated[
        bool, typer.Option("--list", help="Print the named queries and their text; needs no memory.")
    ] = False,
    memory: OptionalMemoryOption = "",
    write: Annotated[bool, typer.Option("--write", help="Allow the query to change the graph.")] = False,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Time limit of the query in seconds.")
    ] = TIMEOUT_S,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Rows in the table; JSON and CSV contain all rows.")
    ] = MAX_TABLE_ROWS,
    as_json: JsonOption = False,
) -> None:
    """Run a Cypher query; read-only unless --write.

    Common questions have named queries: memstore cypher --query NAME
    """
    output = Format.JSON if as_json else output
    if list_queries:
        _print_named_queries(output)
        return
    text, parameters = _query_and_parameters(query, named, param or [])
    with open_memory(need_memory(memory)) as store:
        result = store.cypher(text, parameters, write=write, timeout_s=timeout)
        rows = list(islice(result.rows, limit + 1) if output is Format.TABLE else result.rows)
    print_rows(result.columns, rows, output, limit)


def _query_and_parameters(query: str | None, named: str | None, pairs: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The query text and its parameters."""
    if (query is None) == (named is None):
        raise UsageError("pass one query: its text as the argument, or a name with --query; see --list")
    values = dict(_pair(pair) for pair in pairs)
    if query is not None:
        return query, {key: _json_or_text(value) for key, value in values.items()}
    known = {entry.name: entry for entry in _named_queries()}
    if named not in known:
        raise UsageError(f"no named query {named!r}; available: {', '.join(known)}")
    entry = known[named]
    if unknown := sorted(set(values) - set(entry.parameters)):
        available = ", ".join(entry.parameters) or "none"
        raise UsageError(f"the query {named} has no parameter {unknown[0]!r}; it has {available}")
    # If the default is a text, a value such as 42 stays a text.
    texts = {key for key, default in entry.parameters.items() if isinstance(default, str)}
    chosen = {key: value if key in texts else _json_or_text(value) for key, value in values.items()}
    return entry.text, {**entry.parameters, **chosen}


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--param {text!r} is not KEY=VALUE; example: --param dataset=gsm8k")
    return key, value


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], output: Format, limit: int) -> None:
    """Print rows; a table is cut after `limit` rows with a note."""
    if output is Format.JSON:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif output is Format.CSV:
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


def _print_named_queries(output: Format) -> None:
    queries = _named_queries()
    if output is not Format.TABLE:
        rows = [(query.name, query.question, dict(query.parameters), query.text) for query in queries]
        print_rows(("name", "question", "parameters", "text"), rows, output, len(rows))
        return
    for query in queries:
        defaults = ", ".join(f"{key}={json.dumps(value)}" for key, value in query.parameters.items())
        print(f"{query.name}: {query.question}")
        print(f"    parameters: {defaults}" if defaults else "    no parameters")
        print("\n".join(f"    {line}" for line in query.text.strip().splitlines()), end="\n\n")
