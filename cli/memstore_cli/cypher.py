"""`memstore cypher`: run a Cypher query, given as text or by name."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, OptionalMemoryOption, UsageError, need_memory, with_option_groups
from memstore_cli.output import counted, jsonable, print_json, print_table

if TYPE_CHECKING:
    from memstore.graph.protocol import GraphStore
    from memstore_schema.queries import NamedQuery

MAX_TABLE_ROWS = 50
TIMEOUT_S = 30.0


class Format(StrEnum):
    """Output format of the rows."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True)
class QueryOptions:
    """The query and its parameters."""

    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", show_default=False, help="Cypher query; - reads it from standard input."),
    ] = None
    named: Annotated[
        str | None,
        typer.Option("--query", metavar="NAME", show_default=False, help="Run a named query instead; see --list."),
    ] = None
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="KEY=VALUE",
            show_default=False,
            help="Query parameter $KEY; the value is parsed as JSON if possible, else taken as text. Repeatable.",
        ),
    ] = None

    def text_and_parameters(self, limit: int | None) -> tuple[str, dict[str, Any]]:
        """The text of the query and its parameters; for a named query, `limit` is also its parameter `limit`."""
        if (self.query is None) == (self.named is None):
            raise UsageError("pass one query: its text as the argument, or a name with --query; see --list")
        values = dict(_pair(pair) for pair in self.param or ())
        if self.named is not None:
            return _named_query(self.named, values, limit)
        text = sys.stdin.read() if self.query == "-" else self.query or ""
        if not text.strip():
            raise UsageError("the query is empty; pass its text as the argument, or on standard input with -")
        return text, {key: _json_or_text(value) for key, value in values.items()}


@with_option_groups
def cypher(
    query: QueryOptions,
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
        int | None,
        typer.Option("--limit", min=1, show_default="50 in a table", help="At most this many rows, in every format."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a Cypher query; read-only unless --write.

    Common questions have named queries: memstore cypher --query NAME
    """
    output = Format.JSON if as_json else output
    if list_queries:
        _print_named_queries(output)
        return
    text, parameters = query.text_and_parameters(limit)
    asked = parameters.get("limit") if query.named else None
    shown = limit or (asked if isinstance(asked, int) else MAX_TABLE_ROWS)
    with open_memory(need_memory(memory)) as store:
        if query.named:
            parameters = _with_full_ids(store.graph, parameters)
        result = store.cypher(text, parameters, write=write, timeout_s=timeout)
        rows = list(result.rows if output is not Format.TABLE and limit is None else islice(result.rows, shown + 1))
    print_rows(result.columns, rows, output, shown if output is Format.TABLE or limit else len(rows))
    if query.named and not rows and output is Format.TABLE:
        hint = next(entry.empty for entry in _named_queries() if entry.name == query.named)
        print(hint or "", end="\n" if hint else "")


def _named_query(name: str, values: Mapping[str, str], limit: int | None) -> tuple[str, dict[str, Any]]:
    """The text of a named query and its parameters."""
    known = {entry.name: entry for entry in _named_queries()}
    if name not in known:
        raise UsageError(f"no named query {name!r}; available: {', '.join(known)}")
    entry = known[name]
    if unknown := sorted(set(values) - set(entry.parameters)):
        available = ", ".join(entry.parameters) or "none"
        raise UsageError(f"the query {name} has no parameter {unknown[0]!r}; it has {available}")
    # If the default is a text, a value such as 42 stays a text.
    texts = {key for key, default in entry.parameters.items() if isinstance(default, str)}
    chosen = {key: value if key in texts else _json_or_text(value) for key, value in values.items()}
    if limit is not None and "limit" in entry.parameters:
        chosen.setdefault("limit", limit)
    return entry.text, {**entry.parameters, **chosen}


def _with_full_ids(graph: GraphStore, parameters: dict[str, Any]) -> dict[str, Any]:
    """Replace prefixes of ids in the parameters of a named query by the whole ids."""
    from memstore.graph.find import full_id
    from memstore_schema.columns import NodeLabel

    labels = {"rollout": NodeLabel.THINKING, "query": NodeLabel.QUERY}
    if (named := {"t-": NodeLabel.THINKING, "q-": NodeLabel.QUERY}.get(str(parameters.get("node"))[:2])) is not None:
        labels["node"] = named
    given = {name: value for name, value in parameters.items() if name in labels and value}
    return parameters | {name: full_id(graph, labels[name], value) for name, value in given.items()}


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
    """Print at most `limit` rows; a table has a note if there are more."""
    more = len(rows) > limit
    rows = rows[:limit]
    if output is Format.JSON:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif output is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_csv_value(value) for value in row] for row in rows)
    else:
        print_table(columns, rows, null="NULL")
        print(f"the first {counted(limit, 'row')}; --limit shows more" if more else counted(len(rows), "row"))


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
