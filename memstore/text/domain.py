"""Infer the domain of a query from the content of the query and its gold answer, never from the name of a data set."""

from __future__ import annotations

import re

from memstore.text.choice import options
from memstore.text.maths import is_number
from memstore.types import Domain

_TESTS = re.compile(r"^[ \t]*+(?:def[ \t]++check\b|assert\b)", re.M)
_SIGNATURE = re.compile(r"^[ \t]*+(?:async[ \t]++)?def[ \t]++\w++[ \t]*+\(", re.M)
_LATEX = re.compile(r"\\[A-Za-z]++|\$[^$\n]{1,500}\$|^#### ", re.M)


def infer_domain(query: str, gold: str | None) -> Domain:
    """Infer the domain of a query whose source does not give one.

    Rules, first match wins: the gold holds tests -> code; the query has lettered options -> qa; the gold is a number or
    LaTeX -> math; the query has a Python signature -> code; otherwise other.
    """
    if gold and _TESTS.search(gold):
        return "code"
    if options(query).texts:
        return "qa"
    if gold and (is_number(gold) or _LATEX.search(gold)):
        return "math"
    if _SIGNATURE.search(query):
        return "code"
    return "other"
