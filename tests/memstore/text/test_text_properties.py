"""Properties for arbitrary text: no exception, linear time, idempotent values, answers that survive a split."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.text import canonical_answer, embedded_text, extract_answer, infer_domain, split_response
from memstore.types import DOMAINS, Domain

OPTIONS = "Which one?\n(A) a red one\n(B) blue\n(C) C\n(D) none of the above\n(E) 1,000"
SIGNATURE = "def f(x, y=(1, 2)):\n    '''Add.'''\n"
QUERIES = ("", "What?", OPTIONS, SIGNATURE)

MATHS = st.text(alphabet="0123456789.,+-*/^=()[]{}$% \\xeE!", max_size=24)
LATEX = st.lists(
    st.sampled_from(
        ["\\frac", "\\dfrac", "{", "}", "1", "2", "12", "\\boxed{", "\\text{", "cm", " ", "x", "\\sqrt", "^", "_", ",",
         "\\,", "\\!", "\\left(", "\\right)", "$", "\\%", "=", "about ", "is ", "3", ".5", "1,000", "million", "\\{",
         "\\}", "\\\\", "hours", "(", ")", "\\circ", "\\approx", "e", "5e3", "~", "*", "dozen", "/"]
    ),
    max_size=12,
).map("".join)  # fmt: skip
CHOICES = st.lists(
    st.sampled_from(
        ["A", "B", "C", "(A)", "(B)", "B)", "c", " ", "or ", "and ", ", ", ".", "a red one", "blue",
         "none of the above",
         "option ", "the answer is ", "(", ")", "**", "Yes", "no", ":", "1,000", "\\boxed{", "}"]
    ),
    max_size=8,
).map("".join)  # fmt: skip
ANSWERS = st.one_of(st.text(max_size=60), MATHS, LATEX, CHOICES)
DOMAIN = st.sampled_from(DOMAINS)


@given(ANSWERS, st.sampled_from(["math", "qa", "other"]), st.sampled_from(QUERIES))
@settings(max_examples=600, deadline=None)
def test_canonical_values_are_idempotent(answer: str, domain: Domain, query: str) -> None:
    value, text = canonical_answer(answer, domain, query)
    assert canonical_answer(value, domain, query) == (value, text)
    assert bool(value) == bool(text)


@pytest.mark.parametrize(
    "answer",
    [
        "0.333... 12, _2",  # a repeating decimal that is no longer one once its form is normalised
        ", " + "\u27b8*, " * 400,  # each reading removes some of the signs
        "<" * 50 + "1" + ">" * 50,
        " " * 3_000 + "1/2",  # long only by its white space
    ],
)
@pytest.mark.parametrize("domain", ["math", "qa", "other"])
def test_an_answer_that_never_settles_has_one_value(answer: str, domain: Domain) -> None:
    value = canonical_answer(answer, domain, "").value
    assert value
    assert canonical_answer(value, domain, "").value == value


@given(st.text(max_size=80), DOMAIN, st.sampled_from(QUERIES))
@settings(max_examples=300, deadline=None)
def test_every_text_can_be_split_and_read(text: str, domain: Domain, query: str) -> None:
    split = split_response(text, domain)
    assert extract_answer(text, domain) == split.answer
    assert isinstance(canonical_answer(text, domain, query).value, str)
    assert embedded_text(*split) == "" or embedded_text(*split).strip()
    assert infer_domain(text, text) in DOMAINS


WORKED = st.sampled_from(
    ["She has 16 eggs and eats 3.", "First, 2 + 2 = 4.\nThen 4 * 5 = 20.", "Option (A) is wrong.", "It is $5 a day"]
)
MATH_MARKERS = ("\n#### {}", "\nA: {}", " The answer is {}.", "\nAnswer: {}", " \\boxed{{{}}}",
                "\n**Final answer:** {}",
                "\n<answer>{}</answer>", "</think>{}",
                "</think>\nSo the answer is \\boxed{{{}}}.", "\n\n{}")  # fmt: skip


@given(WORKED, st.sampled_from(MATH_MARKERS), st.integers(0, 10**6), st.sampled_from(["", "$", "-"]))
@settings(max_examples=200, deadline=None)
def test_a_marked_number_survives_the_split(worked: str, marker: str, number: int, sign: str) -> None:
    answer = f"{sign}{number}"
    thinking, found = split_response(worked + marker.format(answer), "math")
    assert canonical_answer(found, "math", "") == canonical_answer(answer, "math", "")
    assert thinking == worked


CHOICE_MARKERS = (" The answer is ({}).", "\nAnswer: {}", " So the correct option is ({})", "</think>{}", "\n#### {}",
                  " Therefore, the answer is ({}) blue, since it is.")  # fmt: skip


@given(WORKED, st.sampled_from(CHOICE_MARKERS), st.sampled_from("ABCDE"))
@settings(max_examples=100, deadline=None)
def test_a_marked_letter_survives_the_split(worked: str, marker: str, letter: str) -> None:
    answer = split_response(worked + marker.format(letter), "qa").answer
    assert canonical_answer(answer, "qa", OPTIONS).value == letter


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="`~<"), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_an_unmarked_code_response_is_the_answer(text: str) -> None:
    if "answer" in text.lower() or "####" in text or "boxed" in text or not text.strip():
        return
    assert split_response(text, "code").answer.strip("\n").rstrip() == text.strip("\n").rstrip() or text[:1] in " \t\n"


N = 100_000
HOSTILE = {
    "braces": "{" * N,
    "boxes": "\\boxed{" * (N // 7),
    "fractions": "\\frac{" * (N // 6),
    "sums": "1+" * N,
    "brackets": "(" * N,
    "pairs": "(" * (N // 2) + ")" * (N // 2),
    "digits": "7" * N,
    "commas": "1,000," * (N // 6),
    "markers": "the answer is " * (N // 14),
    "answers": "answer" * (N // 6),
    "hashes": "#" * N,
    "letters": "(A) " * (N // 4),
    "lone letters": "A, " * (N // 3),
    "spaces": " " * N + "x",
    "stars": "*" * N,
    "lines": "\n" * N + "A:",
    "fences": "```\n" * (N // 4),
    "tags": "<think>" * (N // 7),
    "closing tags": "</think>" * (N // 8),
    "definitions": "def f(" * (N // 6),
    "minus": "-" * N + "1",
    "indentation": "".join(" " * depth + "if x:\n" for depth in range(400)),
    "attributes": "a" + ".b" * (N // 2),
    "elses": "if a:\n  pass\n" + "elif a:\n  pass\n" * 3_000,
    "surrogates": "\ud800" * N,
    "nul": "\0" * N,
    "words": "is " * (N // 3),
    "dollars": "$ " * (N // 2),
    "escapes": "\\" * N,
    "dots": "1." * (N // 2),
    "options": "\n".join(f"({chr(65 + i % 26)}) x" for i in range(N // 6)),
    "short sums": "1+" * 140 + "1",
    "short brackets": "(" * 1_200 + ")" * 1_200,
    "short powers": "2^" * 100 + "2",
    "big power": "9^{9^{9^{9}}}",
    "big exponent": "1e999999999",
}  # fmt: skip


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_linear_time(name: str, domain: Domain) -> None:
    text = HOSTILE[name]
    begun = time.process_time()
    split = split_response(text, domain)
    for answer in (text, split.answer):
        for query in (OPTIONS, SIGNATURE):
            canonical_answer(answer, domain, query)
    canonical_answer(text[:2_400], domain, text)
    infer_domain(text, text)
    assert time.process_time() - begun < 2.0
