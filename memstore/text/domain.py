"""Infer the domain of a query from the content of the query and its gold answer, never from the name of a data set."""

from __future__ import annotations

import json
import re
from typing import Any

from memstore.text.choice import named_letter, options
from memstore.text.maths import is_number
from memstore.types import Domain

_TESTS = re.compile(r"^[ \t]*+(?:def[ \t]++check\b|assert\b)", re.M)
_SIGNATURE = re.compile(r"^[ \t]*+(?:async[ \t]++)?def[ \t]++\w++[ \t]*+\(", re.M)
_LATEX = re.compile(r"\\[A-Za-z]++|\$[^$\n]{1,500}\$|^#### ", re.M)
_CAPITAL_OPTION = re.compile(r"(?:^|[\s(\[{'\"])A[)\].:、]|（A）|Ａ", re.M)
_TEST_KEYS = frozenset(
    [
        "inputs", "outputs", "input_output", "test_list", "test_cases", "tests", "test", "fn_name", "entry_point",
        "public_test_cases", "private_test_cases", "functional", "unit_tests", "testtype", "test_code", "assert_case",
        "stdin", "stdout",
    ]
)  # fmt: skip
_CASE_KEYS = (frozenset(["input", "output"]), frozenset(["input", "expected_output"]), frozenset(["input", "expected"]))
_JSON_LIMIT = 20_000_000
"""Characters; tests of programming contests have megabytes."""


def infer_domain(query: str, gold: str | None) -> Domain:
    """Infer the domain of a query whose source does not give one.

    Rules, first match wins:

    1. The gold holds tests, as Python or as JSON, or a Python function -> code.
    2. The query has lettered options -> qa, unless the gold is a formula that none of them is. Options in small letters
       count only if the gold names one of them, because "(a)" also begins the parts of a problem.
    3. The gold is a number or LaTeX -> math.
    4. The query has a Python signature -> code; otherwise other.
    """
    if gold and (_TESTS.search(gold) or _SIGNATURE.search(gold) or _holds_tests(gold)):
        return "code"
    offered = options(query)
    mathematical = bool(gold) and (is_number(gold or "") or bool(_LATEX.search(gold or "")))
    if offered.texts:
        named = bool(gold) and named_letter(gold or "", offered) in offered.texts
        if named or (not mathematical and _CAPITAL_OPTION.search(query)):
            return "qa"
    if mathematical:
        return "math"
    return "code" if _SIGNATURE.search(query) else "other"


def _holds_tests(gold: str) -> bool:
    """Whether a gold answer is JSON with test cases: `{"inputs": [...], "outputs": [...]}`, `["assert f(1) == 2"]`."""
    if gold.lstrip()[:1] not in ("{", "[") or len(gold) > _JSON_LIMIT:
        return False
    try:
        form = json.loads(gold)
    except (ValueError, RecursionError):
        return False
    return _is_test(form) or (isinstance(form, list) and bool(form) and all(map(_is_test, form)))


def _is_test(form: Any) -> bool:
    if isinstance(form, str):
        return bool(_TESTS.search(form))
    return isinstance(form, dict) and (
        not _TEST_KEYS.isdisjoint(form) or any(keys <= form.keys() for keys in _CASE_KEYS)
    )
