"""Read example calls from a query's text (`>>> f(1, 2)` and `3`, `f([1]) == [1]`, `f("a") => "b"`) and vary them.

Only calls with literal arguments are read. If the text shows the result, it is read as well. A call without a result
is still an input on which the programs of a group can be compared.
"""

from __future__ import annotations

import ast
import re
from typing import Any, NamedTuple

from memstore_gnn.features.syntax import is_deep

TEXT_LIMIT = 6000
"""Characters read, from the start of the query's text."""
CALL_LIMIT = 400
"""Characters of one call, of its result and of a signature."""
MAX_EXAMPLES = 12
"""Example calls of one query."""
MAX_INPUTS = 20
"""Calls on which the programs of one query are compared."""

_SHOWS_RESULT = re.compile(
    r"[ \t]*+(?:(?:#|//)[ \t]*+)?"
    r"(?:===?|=>|->|➞|→|=|returns?\b|should (?:be|return)\b|gives\b|is\b|:|,? the (?:output|result) (?:is|will be))?"
    r"[ \t]*+"
)
_NEXT_LINE = re.compile(r"[ \t]*+\n[ \t]*+")


class Example(NamedTuple):
    """An example call; `expected` is a tuple of one value, or () if the text does not show the result."""

    arguments: tuple[Any, ...]
    expected: tuple[Any, ...]


def entry_point(query: str) -> str | None:
    """Name of the function to write: the last one that the text defines, or the one that its assertions call."""
    names = re.findall(r"(?:^|\n)[ \t]{0,8}(?:async )?def ([A-Za-z_]\w{0,80})", query[:TEXT_LIMIT])
    if names:
        return str(names[-1])
    asserted = re.findall(r"assert (?:not )?\(?([A-Za-z_]\w{0,80})\(", query[:TEXT_LIMIT])
    return str(asserted[0]) if asserted else None


def examples_of(query: str, name: str) -> list[Example]:
    """Calls of `name` in a query's text, in order and without duplicates."""
    text = query[:TEXT_LIMIT]
    found: dict[str, Example] = {}
    for match in re.finditer(rf"(?<![\w.]){re.escape(name)}\(", text):
        if text[: match.start()].rstrip(" \t").endswith("def"):
            continue
        end = _closing(text, match.end())
        arguments = _literal(f"({text[match.end() : end]},)") if end else None
        if not end or not isinstance(arguments, tuple) or not text[match.end() : end].strip():
            continue
        prompted = text[: match.start()].rstrip(" \t").endswith(">>>")
        example = Example(arguments, _expected(text[end + 1 :], prompted))
        known = found.get(repr(arguments))
        if known is None or (example.expected and not known.expected):
            found[repr(arguments)] = example
        if len(found) == MAX_EXAMPLES:
            break
    return list(found.values())


def _closing(text: str, start: int) -> int | None:
    """Position of the bracket that closes a call; brackets inside strings do not count."""
    depth, quote = 1, ""
    for at in range(start, min(len(text), start + CALL_LIMIT)):
        character = text[at]
        if quote:
            if character == quote and text[at - 1] != "\\":
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if not depth:
                return at
    return None


def _expected(after: str, prompted: bool) -> tuple[Any, ...]:
    after = after[:CALL_LIMIT]
    if prompted:
        gap = _NEXT_LINE.match(after)
        return _first_literal(after[gap.end() :]) if gap else ()
    sign = _SHOWS_RESULT.match(after)
    if sign is None or not sign.group().strip():
        return ()
    return _first_literal(after[sign.end() :])


def _first_literal(text: str) -> tuple[Any, ...]:
    """The longest literal at the start of the line."""
    line = text.split("\n", 1)[0].strip()
    opened = line[:1] in "([{"
    candidates = [line, line.split("#")[0], line.rstrip(".;, "), line.split(" # ")[0]]
    if opened:
        end = _closing(line, 1)
        candidates = [line[: end + 1]] if end else []
    elif line[:1] in "\"'":
        candidates.append(line[: line.find(line[0], 1) + 1])
    else:
        candidates += [re.split(r"[\s,;)]", line)[0].rstrip(".")]
    for candidate in candidates:
        value = _literal(candidate.strip())
        if value is not None or candidate.strip() == "None":
            return (value,)
    return ()


def _literal(text: str) -> Any:
    """Value of a Python literal, or of `true`, `false` and `null`; None for any other text."""
    literal = {"true": "True", "false": "False", "null": "None"}.get(text, text)
    try:
        return ast.literal_eval(literal)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def inputs_of(examples: list[Example], query: str, name: str) -> list[tuple[Any, ...]]:
    """Arguments of the calls to compare: those of the examples and variations of them.

    Without examples, arguments are chosen by the annotations of the signature, or else by the parameters' names.
    """
    base = [example.arguments for example in examples] or _from_signature(query, name)
    made: dict[str, tuple[Any, ...]] = {repr(arguments): arguments for arguments in base}
    for arguments in base:
        for position, value in enumerate(arguments):
            for other in _variations(value):
                varied = (*arguments[:position], other, *arguments[position + 1 :])
                made.setdefault(repr(varied), varied)
    chosen = list(made.values())
    # Variations are taken at even steps, so that those of the first example do not fill the list.
    step = max(1, -(-(len(chosen) - len(base)) // max(MAX_INPUTS - len(base), 1)))
    return (chosen[: len(base)] + chosen[len(base) :: step])[:MAX_INPUTS]


def _variations(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [0, 1, value + 1, value * 2 + 3, -value]
    if isinstance(value, float):
        return [0.0, value + 0.5, -value]
    if isinstance(value, str):
        return ["", value[::-1], value + value[:1], value.upper(), value[1:]]
    if isinstance(value, list):
        return [[], value[::-1], value + value[:1], value[1:], value[:1]]
    if isinstance(value, tuple):
        return [value[::-1], value[:1]]
    if isinstance(value, dict):
        return [{}, dict(list(value.items())[:1])]
    return []


_SAMPLES: dict[str, list[Any]] = {
    "int": [3, 10, 24, 101],
    "float": [2.5, 10.0, -1.25],
    "bool": [True, False],
    "str": ["abca", "Hello World", "1 2 x", "racecar (a)(b)"],
    "list[int]": [[3, 1, 2], [1, 2, 2, 5, -4], [10, 11, 30, 7, 7]],
    "list[float]": [[1.5, -2.0, 3.0], [1.0, 2.0, 2.2]],
    "list[str]": [["a", "bb", "abc"], ["xyz", "", "12"]],
    "list[list[int]]": [[[1, 2], [3, 4]], [[0, 0, 1], [1, 1, 1]]],
    "dict": [{"a": "b", "c": "d"}, {"A": 1, "b": 2}],
    "tuple": [(1, 3), (2, 5)],
}
_BY_NAME: tuple[tuple[str, str], ...] = (
    (r"strings|strs|words|names|list_of_str|text_list", "list[str]"),
    (r"grid|matrix|mat|board|lists|tup_list|test_list2d", "list[list[int]]"),
    (r"interval|tup|pair|point", "tuple"),
    (r"dict|map|d1|d2", "dict"),
    (
        r"lst|list|arr|array|nums|numbers|l\d?|xs|values|operations|scores?|grades|operands?|elements|ar|a_list|li",
        "list[int]",
    ),
    (
        r"s\d?|str\d?|strng|string\w*|text|word|sentence|message|txt|char|prefix|substring|brackets|paren\w*|file_name|date|key|music\w*|test_str|pattern",
        "str",
    ),
)


def _from_signature(query: str, name: str) -> list[tuple[Any, ...]]:
    """Sample arguments for the last definition of `name` in a query; [] without one."""
    starts = [match.start() for match in re.finditer(rf"def {re.escape(name)}\(", query[:TEXT_LIMIT])]
    if not starts:
        return []
    head = query[starts[-1] : starts[-1] + CALL_LIMIT].split("\n", 1)[0].rstrip()
    try:
        definition = ast.parse(head + (" pass" if head.endswith(":") else "")).body[0]
        if not isinstance(definition, ast.FunctionDef):
            return []
        pools = [_SAMPLES[_kind(argument)] for argument in definition.args.args]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    if not pools:
        return [()]
    return [tuple(pool[(row + column) % len(pool)] for column, pool in enumerate(pools)) for row in range(4)]


def _kind(argument: ast.arg) -> str:
    """Key of `_SAMPLES` for a parameter."""
    if argument.annotation is not None and not is_deep(argument.annotation):
        annotation = ast.unparse(argument.annotation).lower().replace("typing.", "")
        for kind in (annotation, annotation.split("[")[0] + "[int]", annotation.split("[")[0]):
            if kind in _SAMPLES:
                return kind
    for names, kind in _BY_NAME:
        if re.fullmatch(names, argument.arg.lower()):
            return kind
    return "int"
