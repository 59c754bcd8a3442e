"""Groups that decline to answer get the mean of the labels, not the certainty of unanimous groups."""

from __future__ import annotations

import pytest

from memstore_rl.rewards.abstention import abstains


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.", "I don’t know", "i do not know the answer.", "I'm not sure.", "I am unsure", "Unknown", "N/A",
        "I cannot answer this question.", "Sorry, I can't answer that.", "I have no idea.", "**I don't know.**", "idk",
        "I'm sorry, but I cannot solve this problem.", "No idea", "I don't  know\n",
    ],
)  # fmt: skip
def test_abstentions(text: str) -> None:
    assert abstains(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "no", "No", "none", "None", "no solution", "x", "I", "42", "I don't know, maybe 42.", "I know.",
        "the unknown is 3", "It cannot be determined.", "(E) cannot be determined", "not enough information", "DNE",
        "I don't know " * 20,
    ],
)  # fmt: skip
def test_answers_are_no_abstentions(text: str) -> None:
    # Near misses: some of these are the right answer of a question.
    assert not abstains(text)
