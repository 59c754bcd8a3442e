r"""The declaration of a benchmark: a TOML file that says where its rows are and how a row becomes a question.

    name = "rivers"                           also the dataset of its queries; default: the file's name
    domain = "qa"                             math, qa, code or other; selects the verifier
    source = "./rivers.jsonl"                 a dataset of the hub, or a path that starts with . or /
    query = "{passage}\n\n{question}"         columns of a row in braces; `{a.b}` is field b of column a
    choices = ["{first}", "{second}"]         or the path of a column with all options: "choices.text"
    gold = "{answer}"                         reference answer or tests; of a choice its label, letter or text
    licence = "CC0-1.0"
    link = "https://example.org/rivers"

The fields of `Declaration` list all keys. The bundled benchmarks are such files (`sets/`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from memstore.errors import InputError
from memstore.types import DOMAINS, Domain
from memstore_rl.benchmarks.toml_file import read_toml

SAMPLE = 1_500
"""Default number of questions drawn from a benchmark, as in the paper."""
SUFFIX = ".toml"
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
"""A column in a template; the empty braces of `\\boxed{}` do not match."""

PROMPTS: dict[Domain, str] = {
    "math": "{query}\n\nThink step by step, and put the final answer into \\boxed{} at the end.",
    "qa": "{query}\n\nThink step by step. End with the line `The answer is (X).`, with the letter of the right "
    "option for X.",
    "code": "{query}\n\nWrite the whole program in Python, in one fenced block that begins with ```python.",
    "other": "{query}",
}
"""Default prompt of each domain; it asks for the answer format that the extractor reads most reliably."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A benchmark. A template contains columns in braces; a path is one column, or `column.field`."""

    name: str
    domain: Domain
    source: str
    query: str
    """Template of the query without its options."""
    title: str = ""
    config: str | None = None
    revision: str | None = None
    splits: tuple[str, ...] = ("train",)
    """Splits of the source to pool; memstore draws its own splits from all of them."""
    choices: str | tuple[str, ...] | None = None
    """Path of a column with the options, or a template for each option."""
    labels: str | tuple[str, ...] | None = None
    """Labels by which the gold refers to the options, if not A, B, C or the texts: path of a column, or the labels."""
    shuffle: bool = False
    """Shuffle the options deterministically; for sources that always list the correct option first."""
    gold: str | None = None
    solution: str | None = None
    r"""Template of a worked solution, instead of `gold`; its marked answer (`\boxed{}`, `####`) is the gold."""
    key: str | None = None
    """Template of the source's key of a row; None: a query is identified by its text."""
    prompt: str = ""
    """Template with `{query}`; "": the default of the domain, see `PROMPTS`."""
    system: str | None = None
    sample: int = SAMPLE
    licence: str = "unknown"
    link: str = ""
    out_of_domain: bool = False
    """Reserved for out-of-domain tests."""
    gated: bool = False
    """Access on the hub requires accepting its terms."""
    folder: Path | None = field(default=None, metadata={"declared": False})
    """Folder of the declaration's file, to which a relative source refers."""

    @property
    def local(self) -> Path | None:
        """The source as a local path; None if it is a dataset of the hub."""
        return (self.folder or Path()) / self.source if self.source.startswith((".", "/")) else None


_FIELDS = {entry.name: entry for entry in fields(Declaration) if entry.metadata.get("declared", True)}
_LISTS = frozenset(["splits", "choices", "labels"])
_TEXTS_OR_LISTS = frozenset(["choices", "labels"])


def read_declaration(path: Path) -> Declaration:
    """Read a benchmark's declaration.

    Raises:
        InputError: the file cannot be read, is not TOML, or is not a valid declaration.
    """
    values = read_toml(path)
    try:
        return _parse({"name": path.name.removesuffix(SUFFIX), **values}, path.parent)
    except ValueError as error:
        raise InputError(f"{path} is not a valid declaration: {error}") from error


def _parse(document: Mapping[str, Any], folder: Path) -> Declaration:
    for name in document.keys() - _FIELDS.keys():
        similar = get_close_matches(name, _FIELDS, 1)
        raise ValueError(f"unknown key {name!r}" + (f"; did you mean {similar[0]}?" if similar else ""))
    missing = [name for name, entry in _FIELDS.items() if entry.default is MISSING and name not in document]
    if missing:
        raise ValueError(f"required keys are missing: {', '.join(missing)}")
    values: dict[str, Any] = {name: _value(name, value) for name, value in document.items()}
    declaration = Declaration(**values, folder=folder)
    _check(declaration)
    return declaration


def _value(name: str, value: object) -> object:
    """Check a value's type and convert it to its field's."""
    kind = _FIELDS[name].type
    if name in _LISTS and isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return tuple(value)
    if name == "splits" and isinstance(value, str):
        return (value,)
    if kind == "bool" or kind == "int":
        valid = isinstance(value, bool) if kind == "bool" else type(value) is int and value > 0
        if not valid:
            raise ValueError(f"{name} is {value!r}; it must be {'true or false' if kind == 'bool' else 'over 0'}")
    elif not isinstance(value, str) or not value.strip():
        expected = "text or a list of texts" if name in _TEXTS_OR_LISTS else "text"
        raise ValueError(f"{name} is {value!r}; it must be {expected}")
    return value


def _check(declaration: Declaration) -> None:
    if declaration.domain not in DOMAINS:
        raise ValueError(f"domain is {declaration.domain!r}; it must be one of {', '.join(get_args(Domain))}")
    if not PLACEHOLDER.search(declaration.query):
        raise ValueError("query contains no column; put one in braces, such as {question}")
    if declaration.prompt and "{query}" not in declaration.prompt:
        raise ValueError("prompt does not contain {query}, so the model would not see the question")
    if declaration.gold and declaration.solution:
        raise ValueError("both gold and solution are given; keep one of them")
    if declaration.solution and declaration.domain != "math":
        raise ValueError("solution is supported for domain math only; use gold")
    if declaration.choices is None and (declaration.labels or declaration.shuffle):
        raise ValueError("labels and shuffle need choices")
