r"""What a benchmark is, as a file of ten lines says it: where its rows are, and how a row becomes a question.

    name = "rivers"                           also the dataset of its queries; without it: the file's name
    domain = "qa"                             math, qa, code or other: which verifier reads the gold
    source = "./rivers.jsonl"                 a dataset of the hub, or a file or folder that begins with . or /
    query = "{passage}\n\n{question}"         columns of a row stand in braces, `{a.b}` is field b of column a
    choices = ["{first}", "{second}"]         or the path of a column that holds all options: "choices.text"
    gold = "{answer}"                         reference answer, tests, or of a choice its label, letter or text
    licence = "CC0-1.0"
    link = "https://example.org/rivers"

What else there is, the fields of `Declaration` say. The sets that come with memstore are such files (`sets/`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from memstore.errors import InputError
from memstore.types import DOMAINS, Domain

SAMPLE = 1_500
"""Questions of a benchmark that are drawn, as in the paper."""
ENDING = ".toml"
HOLE = re.compile(r"\{([^{}]+)\}")
"""A column in a template; `\\boxed{}` has none."""

PROMPTS: dict[Domain, str] = {
    "math": "{query}\n\nThink step by step, and put the final answer into \\boxed{} at the end.",
    "qa": "{query}\n\nThink step by step. End with the line `The answer is (X).`, with the letter of the right "
    "option for X.",
    "code": "{query}\n\nWrite the whole program in Python, in one fenced block that begins with ```python.",
    "other": "{query}",
}
"""How a model is asked where the declaration does not say it: for what the one extractor reads most surely."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A benchmark. Templates hold columns in braces; a path names one column, or a field of it after a dot."""

    name: str
    domain: Domain
    source: str
    query: str
    """Template of the query, without its options."""
    title: str = ""
    config: str | None = None
    revision: str | None = None
    splits: tuple[str, ...] = ("train",)
    """The source's splits whose rows are pooled; ours are drawn from all of them."""
    choices: str | tuple[str, ...] | None = None
    """Path of a column that holds the options, or a template for each."""
    labels: str | tuple[str, ...] | None = None
    """What the gold calls the options, if not A, B, C or by their texts: path of a column, or the labels."""
    shuffle: bool = False
    """Put the options into an order of their own, the same in every run: the right one always stands first."""
    gold: str | None = None
    solution: str | None = None
    r"""Template of a worked solution in place of `gold`: what it marks as its answer (`\boxed{}`, `####`) is it."""
    key: str | None = None
    """Template of the source's own key of a row; without it a query is known by its text."""
    prompt: str = ""
    """Template with `{query}`; "" stands for that of the domain."""
    system: str | None = None
    sample: int = SAMPLE
    licence: str = "unknown"
    link: str = ""
    out_of_domain: bool = False
    """Kept for testing what was learned elsewhere."""
    gated: bool = False
    """The hub asks who wants it to accept its terms first."""
    folder: Path | None = field(default=None, metadata={"declared": False})
    """Where a relative source begins: beside the declaration's file."""

    @property
    def local(self) -> Path | None:
        """The file or folder that the source is; None where it is a dataset of the hub."""
        return (self.folder or Path()) / self.source if self.source.startswith((".", "/")) else None


_FIELDS = {entry.name: entry for entry in fields(Declaration) if entry.metadata.get("declared", True)}
_LISTS = frozenset(["splits", "choices", "labels"])
_TEXTS_OR_LISTS = frozenset(["choices", "labels"])


def read_declaration(path: Path) -> Declaration:
    """The benchmark that a file declares.

    Raises:
        InputError: the file cannot be read, is no TOML, or declares no benchmark; the message says what is wrong.
    """
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; check its name") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    try:
        return _declared({"name": path.name.removesuffix(ENDING), **said}, path.parent)
    except ValueError as error:
        raise InputError(f"{path} declares no benchmark: {error}") from error


def _declared(said: Mapping[str, Any], folder: Path) -> Declaration:
    for name in said.keys() - _FIELDS.keys():
        near = get_close_matches(name, _FIELDS, 1)
        raise ValueError(f"there is no key {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    missing = [name for name, entry in _FIELDS.items() if entry.default is MISSING and name not in said]
    if missing:
        raise ValueError(f"{', '.join(missing)} must be given")
    values: dict[str, Any] = {name: _value(name, value) for name, value in said.items()}
    declaration = Declaration(**values, folder=folder)
    _check(declaration)
    return declaration


def _value(name: str, value: object) -> object:
    """The value as its field holds it."""
    kind = _FIELDS[name].type
    if name in _LISTS and isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return tuple(value)
    if name == "splits" and isinstance(value, str):
        return (value,)
    if kind == "bool" or kind == "int":
        right = isinstance(value, bool) if kind == "bool" else type(value) is int and value > 0
        if not right:
            raise ValueError(f"{name} is {value!r}; it must be {'true or false' if kind == 'bool' else 'over 0'}")
    elif not isinstance(value, str) or not value.strip():
        either = "text or a list of texts" if name in _TEXTS_OR_LISTS else "text"
        raise ValueError(f"{name} is {value!r}; it must be {either}")
    return value


def _check(declaration: Declaration) -> None:
    if declaration.domain not in DOMAINS:
        raise ValueError(f"domain is {declaration.domain!r}; it must be one of {', '.join(get_args(Domain))}")
    if not HOLE.search(declaration.query):
        raise ValueError("query names no column; put one in braces, as in {question}")
    if declaration.prompt and "{query}" not in declaration.prompt:
        raise ValueError("prompt does not hold {query}, so the model would not see the question")
    if declaration.gold and declaration.solution:
        raise ValueError("gold and solution are both given; the gold is read from one of them")
    if declaration.solution and declaration.domain != "math":
        raise ValueError("solution is read for domain math only; give gold")
    if declaration.choices is None and (declaration.labels or declaration.shuffle):
        raise ValueError("labels and shuffle are about choices, and there are none")
