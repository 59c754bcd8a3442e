"""Canonical forms of programs: which sources have the same form, and which keep different forms."""

from __future__ import annotations

import pytest

from memstore.text import canonical_answer

QUERY = '''from typing import List


def total(numbers: List[int], start: int = 0) -> int:
    """ Sum of numbers.
    >>> total([1, 2])
    3
    """
'''
BODY = "    result = start\n    for n in numbers:\n        result += n\n    return result\n"


def value(answer: str, query: str = QUERY) -> str:
    return canonical_answer(answer, "code", query).value


SAME = {
    "other names": BODY.replace("result", "acc").replace("n in", "item in").replace("+= n", "+= item"),
    "comments": "    # add up\n" + BODY.replace("start\n", "start  # begin\n"),
    "docstring": '    """Sum."""\n' + BODY,
    "unindented": "result = start\nfor n in numbers:\n    result += n\nreturn result",
    "first line unindented": BODY.lstrip(),
    "two spaces": BODY.replace("    ", "  "),
    "annotated": BODY.replace("result = start", "result: int = start"),
    "whole function": "def total(numbers, start=0):\n" + BODY,
    "whole program": QUERY + BODY,
    "with imports and tests": QUERY + BODY + "\nprint(total([1]))\nassert total([1]) == 1\n",
    "fenced": f"```python\n{QUERY}{BODY}```",
    "fenced among words": f"Here it is:\n\n```python\n{QUERY}{BODY}```\nRun it:\n```bash\npython x.py\n```\n",
    "spaces": BODY.replace(" = ", "="),
}


@pytest.mark.parametrize("name", SAME)
def test_spellings_of_the_same_program(name: str) -> None:
    assert value(SAME[name]) == value(BODY)


def test_the_form_is_a_readable_program() -> None:
    assert (
        value(BODY)
        == "def total(numbers, start=0):\n    v0 = start\n    for v1 in numbers:\n        v0 += v1\n    return v0"
    )


@pytest.mark.parametrize(
    "other",
    [
        BODY.replace("+=", "-="),
        BODY.replace("result = start", "result = 0"),
        BODY + "    # unreachable\n    return 0\n",
        "    return sum(numbers, start)\n",
        "    pass\n",
        "    return start\n",
    ],
)
def test_different_programs_have_different_forms(other: str) -> None:
    assert value(other) != value(BODY)


def test_renaming_preserves_the_meaning() -> None:
    """A name bound by a comprehension may be a builtin outside of it; parameters keep their names."""
    assert value("    return max([max for max in numbers])") != value("    return sum([sum for sum in numbers])")
    assert value("    v1 = 1\n    v0 = 2\n    return v1 - v0") != value("    v1 = 1\n    v0 = 2\n    return v0 - v1")
    assert value("    a = start\n    return v0 + a") != value("    v0 = start\n    return v0 + v0")
    assert value("    global n\n    n = 1") != value("    global m\n    m = 1")
    assert "key=" in value("    key = 1\n    return sorted(numbers, key=lambda item: item)")


@pytest.mark.parametrize(
    "answer", ["I cannot do this.", "    return (", "def total(:", "for", "    return 0o9", "x = " + "9" * 5_000]
)
def test_a_source_that_does_not_parse_is_compared_as_text(answer: str) -> None:
    assert value(answer) == value("\n" + answer + "  \n")
    assert value(answer)


def test_a_blank_program_has_no_value() -> None:
    assert value(" \n ") == ""


def test_long_and_deeply_nested_programs_have_a_value() -> None:
    long = "    return [" + ", ".join(map(str, range(3_000))) + "]"
    assert value(long).startswith("blake2b:")
    assert canonical_answer(long, "code", QUERY).text.startswith("def total(numbers, start=0):\n    return [0, 1,")
    deep = "    return " + "(" * 150 + "1" + ")" * 150
    assert value(deep) == value(" ".join(deep.split()).join(["    ", ""]))
    assert value("x = 1\n" * 900_000).startswith("blake2b:")


def test_a_script_keeps_all_statements() -> None:
    script = "n = int(input())\nprint(n * 2)"
    assert value(script, "Read a number and double it.") == script


def test_parsing_shows_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    value("    return '\\d' is 1")
    assert not recwarn.list
