"""The text that identifies a query: what is left out of it, and what is part of it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.records.ids import query_id
from memstore.text import normalised_query, readable_query

Q = "How many legs have 3 cats?"
CHATML = f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n"
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{Q}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
OPTIONS = "Which is sweet?\n(A) salt\n(B) sugar"
CODE = 'def twice(n):\n    """Return 2 * n."""\n'

SAME = [
    (f"{Q} ", Q),  # a trailing blank
    (f"\n {Q}\n\n", Q),
    ("How many  legs\thave\u00a03 cats?", Q),  # runs of white space, also a no-break space
    ("How many legs\r\nhave 3 cats?", Q),
    (CHATML, Q),
    (LLAMA, Q),
    (f"<start_of_turn>user\n{Q}<end_of_turn>\n<start_of_turn>model\n", Q),
    (f"<s>[INST] {Q} [/INST]", Q),
    (f"system\nBe brief.\nuser\n{Q}\nassistant\n", Q),  # decoded without special tokens
    (f"{Q}<|endoftext|>", Q),
    ("Que\u0301 es 2+2?", "Qu\u00e9 es 2+2?"),  # NFC
    ("Which is sweet? (A) salt (B) sugar", OPTIONS),
    (CODE.rstrip(), CODE),
]
DIFFERENT = [
    (Q, "How many legs have 4 cats?"),
    (Q, Q.lower()),  # case counts: programs and names
    (OPTIONS, "Which is sweet?\n(A) sugar\n(B) salt"),  # the options are part of the text
    (OPTIONS, "Which is sweet?"),
    ("2\u00b2", "22"),  # NFC, not NFKC: a power is not a digit
    ("What does '<|im_end|>' mean?", "What does mean?"),  # a quoted token is text
    (f"{CHATML}4<|im_end|>\n<|im_start|>user\nAnd 4?<|im_end|>\n", Q),  # a second turn is another question
]


@pytest.mark.parametrize(("text", "other"), SAME)
def test_one_question_has_one_id(text: str, other: str) -> None:
    assert normalised_query(text) == normalised_query(other)
    assert query_id(text) == query_id(other)


@pytest.mark.parametrize(("text", "other"), DIFFERENT)
def test_another_question_has_another_id(text: str, other: str) -> None:
    assert query_id(text) != query_id(other)


def test_a_text_that_is_only_a_template_keeps_an_identity() -> None:
    assert normalised_query("<|im_start|>user\n<|im_end|>") == "<|im_start|>user <|im_end|>"


@pytest.mark.parametrize("text", [f"{Q} ", CODE, OPTIONS, "<|im_end|>"])
def test_the_stored_text_keeps_its_lines(text: str) -> None:
    assert readable_query(text) == text


@pytest.mark.parametrize("text", [CHATML, LLAMA])
def test_the_stored_text_has_no_template(text: str) -> None:
    assert readable_query(text) == Q


PIECES = st.sampled_from(
    ["<|im_start|>user\n", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "user\n", "\nassistant", "system\n",
     "USER: ", " ASSISTANT:", "'", "e\u0301", "\u0958", "\u2000", " ", "\n", "A", "<think>", "<|start_header_id|>",
     "<|end_header_id|>", "<｜User｜>", "<", "|>"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=16).map("".join)


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_normalising_again_changes_nothing(text: str) -> None:
    once = normalised_query(text)
    assert normalised_query(once) == once
    assert once == " ".join(once.split())
    assert unicodedata.is_normalized("NFC", once)
    assert bool(once) == bool(text.split())


@given(TEXTS, st.sampled_from([" ", "\n", "\t\u2003", "\r\n "]))
@settings(max_examples=100, deadline=None)
def test_blanks_at_the_ends_do_not_count(text: str, blank: str) -> None:
    assert normalised_query(blank + text + blank) == normalised_query(text)
