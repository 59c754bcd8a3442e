"""Turn a row of a source into a question, according to the benchmark's declaration.

Each question is checked against the code that reads it later: `memstore.text` must find the options in the text, and
the gold of a choice must be the letter of an option. A row without a question (a proof without an answer, a test row
with a secret label) raises `SkippedRow` with the reason. A missing column is an error of the declaration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from memstore.errors import InputError
from memstore.text.choice import options as options_in
from memstore.text.extract import marked_answer
from memstore_rl.benchmarks.declaration import PLACEHOLDER, PROMPTS, Declaration
from memstore_rl.benchmarks.question import Question

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class SkippedRow(Exception):
    """A row that gives no question; the message completes the phrase `12 rows ...`."""


class RowReader:
    """Reads the rows of one benchmark."""

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        self._prompt = declaration.prompt or PROMPTS[declaration.domain]
        choices = (declaration.choices,) if isinstance(declaration.choices, str) else ()
        labels = (declaration.labels,) if isinstance(declaration.labels, str) else ()
        options = declaration.choices if isinstance(declaration.choices, tuple) else ()
        self._text_paths = {*choices, *_paths_in(declaration.query, declaration.key, *options)}
        self._gold_paths = {*labels, *_paths_in(declaration.gold, declaration.solution)}

    def text_columns(self, available: list[str]) -> list[str]:
        """The columns needed for a row's text and key.

        Raises:
            InputError: the declaration names a missing column.
        """
        for path in sorted(self._text_paths | self._gold_paths):
            if not any(_contains(column, path) for column in available):
                raise self._missing_column(path, available)
        return [column for column in available if any(_contains(column, path) for path in self._text_paths)]

    def key(self, row: Mapping[str, Any]) -> str | None:
        """The source's key of the row."""
        return self._filled(self._declaration.key, row) or None if self._declaration.key else None

    def text(self, row: Mapping[str, Any]) -> str:
        """The text of the query, with its options.

        Raises:
            SkippedRow: the row has no query.
            InputError: the declaration names a missing column.
        """
        query = self._filled(self._declaration.query, row)
        if not query:
            raise SkippedRow("have no query")
        if "\0" in query:
            raise SkippedRow("contain a NUL character, which memories reject")
        if self._declaration.choices is None:
            return query
        options = self._options(row)
        return _with_options(query, [options[index] for index in self._order(query, options)])

    def question(self, row: Mapping[str, Any]) -> Question:
        """The question of the row, without a split.

        Raises:
            SkippedRow: the row has no query or no gold.
            InputError: the declaration names a missing column.
        """
        text, declaration = self.text(row), self._declaration
        gold = self._gold(row)
        if (declaration.gold or declaration.solution) and not gold:
            raise SkippedRow("have no gold answer")
        return Question(
            text=text,
            dataset=declaration.name,
            key=self.key(row),
            domain=declaration.domain,
            gold=gold or None,
            prompt=self._prompt.replace("{query}", text),
            system=declaration.system,
        )

    def _gold(self, row: Mapping[str, Any]) -> str:
        """The gold in the format of the domain's verifier; "" if unknown."""
        declaration = self._declaration
        if declaration.solution is not None:
            return _marked_answer(self._filled(declaration.solution, row))
        gold = self._filled(declaration.gold, row) if declaration.gold else ""
        return self._letter(gold, row) if gold and declaration.choices is not None else gold

    def _letter(self, gold: str, row: Mapping[str, Any]) -> str:
        """The letter of the option that the gold refers to; "" if none."""
        options, labels = self._options(row), self._labels(row)
        if labels is None:
            labels = options if _one_line(gold) in options else list(LETTERS)
        index = labels.index(_one_line(gold)) if _one_line(gold) in labels else len(options)
        order = self._order(self._filled(self._declaration.query, row), options)
        return LETTERS[order.index(index)] if index < len(options) else ""

    def _options(self, row: Mapping[str, Any]) -> list[str]:
        """The options in the source's order, each on one line."""
        choices = self._declaration.choices
        if isinstance(choices, str):
            values = _texts(self._at(choices, row))
        else:
            values = [self._filled(template, row) for template in choices or ()]
        options = [_one_line(option) for option in values]
        if not 2 <= len(options) <= len(LETTERS) or not all(options):
            raise SkippedRow("have no options, or an empty one")
        return options

    def _order(self, query: str, options: list[str]) -> list[int]:
        """The indices of the options in the order in which the query lists them."""
        indices = list(range(len(options)))
        if self._declaration.shuffle:
            indices.sort(key=lambda index: _digest(query, options[index]))
        return indices

    def _labels(self, row: Mapping[str, Any]) -> list[str] | None:
        labels = self._declaration.labels
        return _texts(self._at(labels, row)) if isinstance(labels, str) else list(labels) if labels else None

    def _filled(self, template: str, row: Mapping[str, Any]) -> str:
        """Fill the row's values into a template; values are not interpreted as templates."""
        return PLACEHOLDER.sub(lambda match: _text(self._at(match[1], row)), template).strip()

    def _at(self, path: str, row: Mapping[str, Any]) -> Any:
        if path in row:
            return row[path]
        column, _, field = path.partition(".")
        try:
            return _field(row[column], field)
        except (KeyError, TypeError) as error:
            raise self._missing_column(path, list(row)) from error

    def _missing_column(self, path: str, available: list[str]) -> InputError:
        name = self._declaration.name
        return InputError(f"{name} uses the column {path!r}, which its source lacks; it has {', '.join(available)}")


def _paths_in(*templates: str | None) -> list[str]:
    return [path for template in templates for path in PLACEHOLDER.findall(template or "")]


def _contains(column: str, path: str) -> bool:
    return path == column or path.startswith(column + ".")


def _field(value: Any, name: str) -> Any:
    """A field of a struct, or of each struct in a list."""
    if isinstance(value, list):
        return [_field(entry, name) for entry in value]
    return None if value is None else value[name]


def _text(value: Any) -> str:
    """A value as text: one line per list entry, integers without a decimal point."""
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _texts(value: Any) -> list[str]:
    return [_text(entry) for entry in value] if isinstance(value, list) else []


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _digest(query: str, option: str) -> bytes:
    return hashlib.blake2b(f"{query}\0{option}".encode(), digest_size=8).digest()


def _with_options(query: str, shown: list[str]) -> str:
    text = "\n".join([query, "", *(f"({letter}) {option}" for letter, option in zip(LETTERS, shown, strict=False))])
    if len(options_in(text).texts) != len(shown):
        raise SkippedRow("have options that cannot be read back from the text")
    return text


def _marked_answer(solution: str) -> str:
    """The marked answer of a worked solution; "" if there is none."""
    if "\\boxed" not in solution and "####" not in solution:
        return ""
    found = marked_answer(solution, "math")
    return found.answer if found else ""
