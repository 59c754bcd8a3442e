"""Options of a query, and the letter that an answer names."""

from __future__ import annotations

import pytest

from memstore.text import canonical_answer
from memstore.text.choice import options

QUERY = """What did Blue want to gain?
(A) new perspective
(B) entertained
(C) understanding
(D) the U.S. law, (e.g. f(x))
(E) tired eyes"""

NAMED = [
    ("E", "E"), ("(E)", "E"), ("e", "E"), ("E.", "E"), ("E)", "E"), ("**E**", "E"), ("\\boxed{E}", "E"),
    ("\\text{(E)}", "E"),
    ("(E) tired eyes", "E"), ("E. tired eyes", "E"), ("E: Tired Eyes.", "E"),
    ("tired eyes", "E"),
    ("Tired eyes!", "E"),
    ("Option E", "E"), ("probably E.", "E"),
    ("the best is (B), since it is", "B"),
    ("(A) new persp", "A"), ("A new perspective", "A"),
    ("(D) the U.S. law, (e.g. f(x))", "D"), ("(E), as it is considered", "E"),
    ("J", "J"), ("(J) All of the above", "J"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "letter"), NAMED)
def test_answers_that_name_one_option(answer: str, letter: str) -> None:
    assert canonical_answer(answer, "qa", QUERY).value == letter


@pytest.mark.parametrize(
    "answer", ["A or B", "(A) and (C)", "(A, C, E)", "B) show or E) theatre", "none of the above", "I think so"]
)
def test_answers_that_name_several_options_or_none_are_compared_as_text(answer: str) -> None:
    value, text = canonical_answer(answer, "qa", QUERY)
    assert len(value) > 1
    assert value == text == canonical_answer(answer.upper(), "qa", QUERY.upper()).value


def test_the_display_text_is_the_option_for_every_spelling() -> None:
    texts = {canonical_answer(answer, "qa", QUERY).text for answer in ("E", "(e)", "tired eyes", "(E) tired")}
    assert texts == {"(E) tired eyes"}


def test_a_single_letter_names_an_option_before_it_matches_an_options_text() -> None:
    query = "Which vitamin?\nA. C\nB. A\nC. D"
    assert [canonical_answer(answer, "qa", query).value for answer in ("A", "C", "D")] == ["A", "C", "C"]


def test_options_in_common_formats() -> None:
    expected = {"A": "x y", "B": "z", "C": "w"}
    for query in ("Q?\n(A) x y\n(B) z\n(C) w", "Q?\nA) x y\nB) z\nC) w", "Q?\nA. x y\nB. z\nC. w", 
                  "Q? (A) x y (B) z (C) w",
                  "Choices: A) x y B) z C) w", "Example\nA. no\nB. no\nQ?\nA. x y\nB. z\nC. w"):  # fmt: skip
        assert options(query).texts == expected


@pytest.mark.parametrize(
    "query", ["", "Points (A) and (B) lie on a line.", "A. Smith wrote it.", "(B) x\n(C) y", "I. one\nII. two"]
)
def test_queries_without_options(query: str) -> None:
    assert options(query).texts == {}


def test_without_options_the_value_is_yes_no_or_the_folded_text() -> None:
    def value(answer: str) -> str:
        return canonical_answer(answer, "qa", "Is it?").value

    assert [value(a) for a in ("Yes.", "yes, because 2 < 3", "**No**", "TRUE", "False!")] == [
        "yes",
        "yes",
        "no",
        "true",
        "false",
    ]
    assert value("No one knows") == "no one knows"
    assert value(" The  Eiffel Tower. ") == value("the eiffel tower") == "the eiffel tower"
