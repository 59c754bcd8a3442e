"""Multiple choice, by letter and by text."""

from __future__ import annotations

import pytest

from memstore_rl.verifiers import Attempt, Verdict
from memstore_rl.verifiers.choice import ChoiceVerifier

QUESTION = "Where do fish live?\n(A) On the moon\n(B) In the water\n(C) On trees"


def judged(gold: str, answer: str, query: str = QUESTION) -> Verdict:
    (verdict,) = ChoiceVerifier().check([Attempt(query, gold, answer)])
    return verdict


@pytest.mark.parametrize("gold", ["B", "(B)", "b", "In the water", "(B) In the water"])
@pytest.mark.parametrize("answer", ["B", "(B)", "B.", "in the water", "**B) In the water**", "(B) In the water."])
def test_the_same_option(gold: str, answer: str) -> None:
    assert judged(gold, answer) == Verdict(1.0)


@pytest.mark.parametrize("answer", ["A", "(C) On trees", "on the moon", "B or C", "", "D", "water", "It depends."])
def test_another_or_none(answer: str) -> None:
    assert judged("B", answer) == Verdict(0.0)


@pytest.mark.parametrize("gold", ["F", "In the air", "?"])
def test_a_gold_that_is_no_option_is_no_verdict(gold: str) -> None:
    verdict = judged(gold, "B")
    assert verdict.reward is None
    assert verdict.reason is not None
    assert "among the options A, B, C" in verdict.reason


def test_without_options_the_texts_count() -> None:
    assert judged("yes", "Yes.", "Is water wet?") == Verdict(1.0)
    assert judged("yes", "No, it is not.", "Is water wet?") == Verdict(0.0)
    assert judged("Mount Everest", "mount everest", "Which is highest?") == Verdict(1.0)
