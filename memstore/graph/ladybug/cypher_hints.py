"""Explain errors of LadybugDB to users who know Cypher from Neo4j."""

from __future__ import annotations

import re

FUNCTIONS = {
    "char_length": "size(text)",
    "datetime": "current_timestamp(), or timestamp('2026-01-31 12:00:00')",
    "elementid": "the property id",
    "head": "list[1] (lists are counted from 1)",
    "isempty": "size(value) = 0",
    "last": "list[-1]",
    "rand": "a parameter with a random value",
    "randomuuid": "gen_random_uuid()",
    "reduce": "list_sum(list), list_product(list) or list_reduce(list, (a, b) -> a + b)",
    "split": "string_split(text, separator)",
    "stdev": "sqrt(avg(x * x) - avg(x) * avg(x)), the population's deviation",
    "stdevp": "sqrt(avg(x * x) - avg(x) * avg(x))",
    "tail": "list_slice(list, 2, size(list))",
    "toboolean": "CAST(value AS BOOL)",
    "tofloat": "CAST(value AS DOUBLE)",
    "tointeger": "CAST(value AS INT64)",
    "tostring": "CAST(value AS STRING)",
    "type": "label(relationship)",
}
"""Functions of Neo4j that LadybugDB lacks, and what to write instead."""
ARGUMENTS = {
    "date": "date('2026-01-31'), or current_date()",
    "round": "round(value, digits), as in round(value, 0)",
    "substring": "substring(text, start, length), where the first character is number 1",
    "timestamp": "current_timestamp(), or timestamp('2026-01-31 12:00:00')",
}
"""Functions that take other arguments on LadybugDB."""
_SYNTAX = (
    (re.compile(r"shortestPath\s*\(", re.IGNORECASE), "shortestPath(...)", "-[:TYPE* SHORTEST 1..5]->"),
    (
        re.compile(r"\[\s*\w+\s+IN\b", re.IGNORECASE),
        "list comprehensions",
        "list_filter(list, x -> ...) and list_transform(list, x -> ...)",
    ),
    (re.compile(r"\b\w+\s*\{\s*\.", re.IGNORECASE), "map projections", "{id: q.id, text: q.text}"),
    (
        re.compile(r"\bWHERE\s+(NOT\s+)?\(?\w+:\w+", re.IGNORECASE),
        "labels in WHERE",
        "a label in the pattern, (q:Query)",
    ),
    (re.compile(r"\bexists\s*\(", re.IGNORECASE), "exists(...)", "EXISTS { MATCH ... } or IS NOT NULL"),
)
_NO_FUNCTION = re.compile(r"function (\w+) does not exist")
_ARGUMENTS = re.compile(r"Function (\w+) did not receive correct arguments")
_NO_TABLE = re.compile(r"Table (\S+) does not exist")
_NO_PROPERTY = re.compile(r"Cannot find property (\S+) for (\w+)")


def explain(message: str, query: str) -> str:
    """The message of LadybugDB, with what to write instead where that is known."""
    if found := _NO_FUNCTION.search(message):
        return _no_function(found[1], query)
    if found := _ARGUMENTS.search(message):
        name = _as_written(found[1], query)
        usage = ARGUMENTS.get(name.lower())
        return f"{name} takes other arguments on an embedded memory; write {usage}" if usage else message
    if found := _NO_TABLE.search(message):
        from memstore.graph.names import no_label  # it imports pyarrow, which the query process does not need

        return no_label(found[1])
    if found := _NO_PROPERTY.search(message):
        from memstore.graph.names import no_property

        return no_property(found[1], query, found[2])
    if message.startswith(("Invalid input", "mismatched", "extraneous", "no viable")):
        for pattern, construct, instead in _SYNTAX:
            if pattern.search(query):
                return f"an embedded memory has no {construct}; write {instead} ({message})"
    return message


def _no_function(name: str, query: str) -> str:
    name = _as_written(name, query)
    if instead := FUNCTIONS.get(name.lower()):
        return f"an embedded memory has no function {name}; write {instead}"
    return f"an embedded memory has no function {name}; CALL show_functions() RETURN * lists them"


def _as_written(name: str, query: str) -> str:
    found = re.search(rf"\b{re.escape(name)}\b", query, re.IGNORECASE)
    return found[0] if found else name
