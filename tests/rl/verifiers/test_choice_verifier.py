"""Multiple-choice answers are compared by letter and by text."""

from __future__ import annotations

import pytest

from memstore_rl.verifiers import Attempt, Verdict
from memstore_rl.verifiers.choice import ChoiceVerifier

QUESTION = "Where do fish live?\n(A) On the moon\n(B) In the water\n(C) On trees"


def check(gold: str, answer: str, query: str = QUESTION) -> Verdict:
    (verdict,) = ChoiceVerifier().check([Attempt(query, gold, answer)])
    return verdict


@pytest.mark.parametrize("gold", ["B", "(B)", "b", "In the water", "(B) In the water"])
@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "in the water", "**B) In the water**", "(B) In the water."])
def test_same_option_is_right(gold: str, answer: str) -> None:
    assert check(gold, answer) == Verdict(1.0)


@pytest.mark.parametrize("answer", ["A", "(C) On trees", "on the moon", "B or C", "", "D", "water", "It depends."])
def test_another_option_or_none_is_wrong(answer: str) -> None:
    assert check("B", answer) == Verdict(0.0)


@pytest.mark.parametrize("gold", ["F", "In the air", "?"])
def test_gold_outside_the_options_gives_no_verdict(gold: str) -> None:
    verdict = check(gold, "B")
    assert verdict.reward is None
    assert verdict.reason is not None
    assert "among the options A, B, C" in verdict.reason


def test_texts_are_compared_when_there_are_no_options() -> None:
    assert check("yes", "Yes.", "Is water wet?") == Verdict(1.0)
    assert check("yes", "No, it is not.", "Is water wet?") == Verdict(0.0)
    assert check("Mount Everest", "mount everest", "Which is highest?") == Verdict(1.0)
