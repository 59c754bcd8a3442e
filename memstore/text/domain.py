"""Which kind of task a query is. From the content of the query and its reference answer, never from a name."""

from __future__ import annotations

import re

from memstore.text.choice import options
from memstore.text.maths import is_number
from memstore.types import Domain

_TESTS = re.compile(r"^[ \t]*+(?:def[ \t]++check\b|assert\b)", re.M)
_SIGNATURE = re.compile(r"^[ \t]*+(?:async[ \t]++)?def[ \t]++\w++[ \t]*+\(", re.M)
_LATEX = re.compile(r"\\[A-Za-z]++|\$[^$\n]{1,500}\$|^#### ", re.M)


def infer_domain(query: str, gold: str | None) -> Domain:
    """The domain of a query whose source does not say it.

    In this order: tests as gold -> code; lettered options -> qa; a number or LaTeX as gold -> math; a Python
    signature in the query -> code; else other.
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
