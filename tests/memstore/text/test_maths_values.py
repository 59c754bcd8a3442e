"""Mathematical answers: spellings with the same value, and answers that must keep different values."""

from __future__ import annotations

import pytest

from memstore.text import canonical_answer

SAME = [
    ("18", ["$18", "$18.00", "18.", " 18 ", "+18", "18 dollars", "\\boxed{18}",
            "$\\boxed{18}$", "**18**", "18.0", "x = 18",
            "9 * 2 = 18", "\\$18",
            "18\\text{ dollars}", "18 \\text{dollars}", "\\(18\\)", "about 18", "36/2", "(18)",
            "$18 per day",
            "She makes 18 dollars.", "018",
            "18 miles per hour", "18 cm^2", "18^\\circ", "18\\,\\text{cm}^2"]),
    ("0.5", ["1/2", "\\frac12", "\\frac{1}{2}", "\\dfrac{1}{2}", ".5", "0.50", "\\boxed{\\frac{1}{2}}",
             "\\boxed{\\frac12}.",
             "50/100", "5e-1", "2^{-1}", "\\sqrt{\\frac{1}{4}}"]),
    ("50", ["50%", "50\\%", "50 %", "50 percent"]),
    ("1200", ["1,200", "$1,200.00", "1{,}200", "1\\,200", "1.2e3", "1.2 \\times 10^3", "1.2 thousand", "1,200 people"]),
    ("-3", ["−3", "-$3", "$-3", "- 3", "-3.0", "\\boxed{-3}", "x=-3"]),
    ("3.5", ["3\\frac{1}{2}", "3 1/2", "7/2", "3.50 hours"]),
    ("1/3", ["\\frac13", "2/6", "\\frac{2}{6}"]),
    ("0", ["-0", "0.0", "$0", "0 apples"]),
    ("(1, 2)", ["(1,2)", "\\left(1, 2\\right)", "(1.0, 2)", "(\\frac{2}{2},2)"]),
    ("{1, 2, 3}", ["\\{1,2,3\\}", "\\{ 1, 2, 3 \\}", "\\lbrace 1,2,3\\rbrace"]),
    ("[0, \\infty)", ["[0,\\infty)", "\\left[ 0, \\infty \\right)", "[0, ∞)"]),
    ("1, 2, 3", ["1,2,3", "1, 2, 3."]),
    ("3\\sqrt{2}", ["3\\sqrt2", "3 \\sqrt{2}", "$3\\sqrt{2}$", "\\boxed{3\\sqrt{2}}"]),
    ("2x+5", ["2x + 5", "y = 2x+5", "(2x+5)"]),
    ("x^2", ["x^{2}", "x ^ 2", "x²"]),
    ("monday", ["Monday", "\\text{Monday}", "Monday."]),
    ("C", ["(C)", "\\text{(C)}", "C."]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "answers"), SAME, ids=[value for value, _ in SAME])
def test_spellings_with_the_same_value(value: str, answers: list[str]) -> None:
    assert {answer: canonical_answer(answer, "math", "").value for answer in [value, *answers]} == dict.fromkeys(
        [value, *answers], value
    )


DIFFERENT = [
    ("3\\sqrt{2}", "3"),  # the first number of an expression is not its value
    ("2x+5", "2"),
    ("2x", "2"),
    ("3 x", "3"),
    ("2\\pi", "2"),
    ("5!", "5"),
    ("x^2+y^2=1", "1"),  # the right side of an equation in unknowns is not a result
    ("x > 5", "5"),
    ("5 less than Anne", "5"),
    ("2 dozen eggs", "2"),
    ("2 thirds", "2"),
    ("1.8 million", "1.8"),
    ("10 - cost", "10"),
    ("84 sofas and 88 chairs", "84"),
    ("3 feet 2 inches", "3"),
    ("2:30", "2"),
    ("1 2", "12"),
    ("(1,234)", "1234"),  # inside brackets a comma separates elements
    ("(1, 2)", "(2, 1)"),
    ("[1, 2)", "(1, 2]"),
    ("x = 1, y = 2", "x = 2, y = 1"),
    ("\\frac{1}{0}", "0"),
    ("1/3", "0.333"),
    ("6th", "6"),
    ("May 5", "5"),
]


@pytest.mark.parametrize(("answer", "other"), DIFFERENT)
def test_answers_with_different_values(answer: str, other: str) -> None:
    assert canonical_answer(answer, "math", "").value != canonical_answer(other, "math", "").value


def test_zero_is_a_value_and_a_blank_answer_has_none() -> None:
    """Defect 14 of the reference implementation: a majority for 0 counted as no majority."""
    assert canonical_answer("0", "math", "") == ("0", "0")
    assert canonical_answer("", "math", "") == ("", "")
    assert canonical_answer(" \n", "math", "") == ("", "")


def test_eighty_digits_stay_exact() -> None:
    number = "9" * 79 + "1"
    assert canonical_answer(f"${number}.00", "math", "").value == number
    assert canonical_answer(number + "/3", "math", "").value == f"{number}/3"


def test_a_number_of_thousands_of_digits_is_compared_as_text() -> None:
    value, text = canonical_answer("7" * 6_000, "math", "")
    assert value.startswith("blake2b:")
    assert text == "7" * 2_000
    assert value != canonical_answer("7" * 6_001, "math", "").value


def test_a_five_megabyte_answer_has_a_value() -> None:
    assert canonical_answer("x + 1 " * 800_000, "math", "").value.startswith("blake2b:")
