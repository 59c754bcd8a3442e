"""A row of a source as a question, by its benchmark's declaration.

What a question says of itself is checked here against what will read it: options must be read back from the text by
`memstore.text`, and the gold of a choice is the letter of one of them. A row that gives no question (a proof without
an answer, a test row whose label is kept secret) raises `NoQuestion`, with the reason; a column that is not there is
an error of the declaration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from memstore.errors import InputError
from memstore.text.choice import options as options_in
from memstore.text.extract import marked_answer
from memstore_rl.benchmarks.declaration import HOLE, PROMPTS, Declaration
from memstore_rl.benchmarks.question import Question

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class NoQuestion(Exception):
    """A row that is none; the message says why, as in `12 rows ...`."""


class RowReader:
    """Reads the rows of one benchmark."""

    def __init__(self, declaration: Declaration) -> None:
        self._declared = declared = declaration
        self._prompt = declared.prompt or PROMPTS[declared.domain]
        choices = (declared.choices,) if isinstance(declared.choices, str) else ()
        labels = (declared.labels,) if isinstance(declared.labels, str) else ()
        options = declared.choices if isinstance(declared.choices, tuple) else ()
        self._of_text = {*choices, *_holes(declared.query, declared.key, *options)}
        self._of_gold = {*labels, *_holes(declared.gold, declared.solution)}

    def columns_of_text(self, there: list[str]) -> list[str]:
        """The columns that a row's text and key are made of.

        Raises:
            InputError: the declaration names a column that is not there.
        """
        for path in sorted(self._of_text | self._of_gold):
            if not any(_leads_to(column, path) for column in there):
                raise self._absent(path, there)
        return [column for column in there if any(_leads_to(column, path) for path in self._of_text)]

    def key(self, row: Mapping[str, Any]) -> str | None:
        """The source's own key of the row."""
        return self._filled(self._declared.key, row) or None if self._declared.key else None

    def text(self, row: Mapping[str, Any]) -> str:
        """The text of the query, with its options.

        Raises:
            NoQuestion: there is none.
            InputError: the declaration names a column that is not there.
        """
        query = self._filled(self._declared.query, row)
        if not query:
            raise NoQuestion("have no query")
        if "\0" in query:
            raise NoQuestion("hold a NUL character, which no memory takes")
        if self._declared.choices is None:
            return query
        options = self._options(row)
        return _with_options(query, [options[place] for place in self._order(query, options)])

    def question(self, row: Mapping[str, Any]) -> Question:
        """The question of the row; its split is not drawn yet.

        Raises:
            NoQuestion: it is none, or its gold is not known.
            InputError: the declaration names a column that is not there.
        """
        text, declared = self.text(row), self._declared
        gold = self._gold(row)
        if (declared.gold or declared.solution) and not gold:
            raise NoQuestion("have no gold answer")
        return Question(
            text=text,
            dataset=declared.name,
            key=self.key(row),
            domain=declared.domain,
            gold=gold or None,
            prompt=self._prompt.replace("{query}", text),
            system=declared.system,
        )

    def _gold(self, row: Mapping[str, Any]) -> str:
        """The gold as the domain's verifier reads it, "" where it is not known."""
        declared = self._declared
        if declared.solution is not None:
            return _marked(self._filled(declared.solution, row))
        said = self._filled(declared.gold, row) if declared.gold else ""
        return self._letter(said, row) if said and declared.choices is not None else said

    def _letter(self, said: str, row: Mapping[str, Any]) -> str:
        """The letter of the option that the gold names, "" where it names none."""
        options, labels = self._options(row), self._labels(row)
        if labels is None:
            labels = options if _one_line(said) in options else list(LETTERS)
        place = labels.index(_one_line(said)) if _one_line(said) in labels else len(options)
        order = self._order(self._filled(self._declared.query, row), options)
        return LETTERS[order.index(place)] if place < len(options) else ""

    def _options(self, row: Mapping[str, Any]) -> list[str]:
        """The options in the order of the source, each on one line."""
        choices = self._declared.choices
        if isinstance(choices, str):
            given = _texts(self._at(choices, row))
        else:
            given = [self._filled(template, row) for template in choices or ()]
        options = [_one_line(option) for option in given]
        if not 2 <= len(options) <= len(LETTERS) or not all(options):
            raise NoQuestion("have no options, or an empty one")
        return options

    def _order(self, query: str, options: list[str]) -> list[int]:
        """The places of the options in the order in which the query shows them."""
        places = list(range(len(options)))
        return sorted(places, key=lambda place: _digest(query, options[place])) if self._declared.shuffle else places

    def _labels(self, row: Mapping[str, Any]) -> list[str] | None:
        labels = self._declared.labels
        return _texts(self._at(labels, row)) if isinstance(labels, str) else list(labels) if labels else None

    def _filled(self, template: str, row: Mapping[str, Any]) -> str:
        """A template with the row's values in its braces; no text of a row is taken for a template."""
        return HOLE.sub(lambda hole: _text(self._at(hole[1], row)), template).strip()

    def _at(self, path: str, row: Mapping[str, Any]) -> Any:
        if path in row:
            return row[path]
        column, _, field = path.partition(".")
        try:
            return _field(row[column], field)
        except (KeyError, TypeError) as error:
            raise self._absent(path, list(row)) from error

    def _absent(self, path: str, there: list[str]) -> InputError:
        name = self._declared.name
        return InputError(f"{name} reads {path!r}, which its source does not have; there are {', '.join(there)}")


def _holes(*templates: str | None) -> list[str]:
    return [path for template in templates for path in HOLE.findall(template or "")]


def _leads_to(column: str, path: str) -> bool:
    return path == column or path.startswith(column + ".")


def _field(value: Any, name: str) -> Any:
    """A field of a struct, or of each struct of a list."""
    if isinstance(value, list):
        return [_field(entry, name) for entry in value]
    return None if value is None else value[name]


def _text(value: Any) -> str:
    """A value as text: a list a line each, a whole number without its point."""
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
        raise NoQuestion("have options that cannot be told from their text")
    return text


def _marked(solution: str) -> str:
    """What a worked solution marks as its answer."""
    if "\\boxed" not in solution and "####" not in solution:
        return ""
    found = marked_answer(solution, "math")
    return found.answer if found else ""
