"""Tokens of a Cypher query with their positions and paired brackets, for `scope`.

Comments and white space are dropped. Two things that Neo4j permits are refused because they disguise the text: unicode
escapes (backslash u), which Neo4j resolves before it looks for quotes and brackets, and characters beyond ASCII outside
of quotes and names, some of which it reads as dashes and arrows.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from memstore.errors import InputError
from memstore.graph.nesting import check_nesting

_TOKEN = re.compile(
    r"(?P<skip>\s+|//[^\n\r]*|/\*.*?\*/)"
    r"|(?P<string>'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")"
    r"|(?P<quoted>`(?:[^`]|``)*`)"
    r"|(?P<parameter>\$(?:\w+|`(?:[^`]|``)*`))"
    r"|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\w*)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<symbol>.)",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Token(NamedTuple):
    """One token; `name` is its text without backticks, `upper` the same in capitals where it is a bare word."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        """The word in capitals; empty for all that is no bare word, so that it never equals a keyword."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str | None:
        """The identifier; None where it is none."""
        if self.kind == "word":
            return self.text
        return self.text[1:-1].replace("``", "`") if self.kind == "quoted" else None


END = Token("end", "", -1, -1)
"""What stands before the first and after the last token."""


class Tokens:
    """The tokens of a query; `closing[i]` is the place of the bracket that closes the one at `i`."""

    def __init__(self, text: str) -> None:
        """Split a query into tokens.

        Raises:
            InputError: brackets that do not pair or are nested too deep, a unicode escape, or a quote that is never
                closed.
        """
        if any(found[1] in "uU" for found in _ESCAPE.finditer(text)):
            raise InputError("the query has a unicode escape; write the character itself or pass it as a parameter")
        found = (match for match in _TOKEN.finditer(text) if match.lastgroup != "skip")
        self._tokens = [Token(match.lastgroup or "", match[0], match.start(), match.end()) for match in found]
        self.closing: dict[int, int] = {}
        check_nesting(token.text for token in self._tokens)
        self._pair()

    def _pair(self) -> None:
        open_at: list[int] = []
        for place, token in enumerate(self._tokens):
            if token.kind != "symbol":
                continue
            if token.text in _CLOSING:
                open_at.append(place)
            elif token.text in _CLOSING.values():
                if not open_at or _CLOSING[self._tokens[open_at[-1]].text] != token.text:
                    raise InputError(f"the query has a {token.text} without an opening bracket; check its brackets")
                self.closing[open_at.pop()] = place
            elif token.text in "'\"`":
                raise InputError(f"the query has a {token.text} that is not closed; check its quotes")
            elif not " " < token.text <= "~":
                raise InputError(f"the query has the character {token.text!r} outside of quotes; use ASCII there")
        if open_at:
            text = self._tokens[open_at[-1]].text
            raise InputError(f"the query has a {text} that is not closed; check its brackets")

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, place: int) -> Token:
        return self._tokens[place] if 0 <= place < len(self._tokens) else END
