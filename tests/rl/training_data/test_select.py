"""The best rollouts of a group, and pairs of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore_rl.training_data.candidates import Candidate
from memstore_rl.training_data.select import BestRule, PairRule, best_of_n, preference_pairs


def rollout(name: str, answer: str, reward: float, source: str = "predicted", text: str | None = None) -> Candidate:
    return Candidate(name, answer, text or name, reward, source, None, 1, None, None, None, None)


GROUP = [
    rollout("a", "4", 0.9),
    rollout("b", "4", 0.8, "ground_truth"),
    rollout("c", "5", 0.95),
    rollout("d", "6", 0.3),
    rollout("e", "6", 0.0, "ground_truth"),
    rollout("f", "4", 0.9, text="a"),
]


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (BestRule(), "bca"),  # known right first; f says the same as a; d and e are below 0.5
        (BestRule(2), "bc"),
        (BestRule(min_reward=0.0), "bcade"),
        (BestRule(min_reward=0.9), "ca"),
        (BestRule(distinct="answer", min_reward=0.0), "bcd"),
        (BestRule(min_reward=1.0), ""),
    ],
)
def test_best_of_n(rule: BestRule, names: str) -> None:
    assert [one.id for one in best_of_n(GROUP, rule)] == list(names)


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (PairRule(), ["be"]),
        (PairRule(per_query=3), ["be", "cd", "ae"]),  # each has a pair before one has two
        (PairRule(per_query=9), ["be", "cd", "ae", "bd", "ce", "ad"]),
        (PairRule(per_query=9, min_gap=0.65), ["be", "cd", "ae", "ce"]),
        (PairRule(per_query=9, min_gap=1.0), []),
        (PairRule(per_query=9, distinct="answer"), ["bd", "cd"]),
        (PairRule(per_query=9, min_reward=0.95), ["ce", "cd"]),
    ],
)
def test_pairs(rule: PairRule, names: list[str]) -> None:
    assert [pair.chosen.id + pair.rejected.id for pair in preference_pairs(GROUP, rule)] == names


def test_a_gap_is_what_it_is_in_decimals() -> None:
    group = [rollout("a", "4", 0.7), rollout("b", "5", 0.4)]
    assert 0.7 - 0.4 < 0.3
    assert [pair.gap for pair in preference_pairs(group, PairRule(min_gap=0.3))] == [0.3]


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 4), st.sampled_from("pq")), max_size=12),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_pairs_of_any_group(rows: list[tuple[str, int, str]], limit: int, random: object) -> None:
    """Answers differ, the gap is kept, no pair of texts twice, and the order of the input says nothing."""
    group = [rollout(str(number), answer, tenth / 4, text=text) for number, (answer, tenth, text) in enumerate(rows)]
    rule = PairRule(per_query=limit, min_gap=0.25)
    found = preference_pairs(group, rule)
    assert len(found) <= limit
    for pair in found:
        assert pair.chosen.answer != pair.rejected.answer
        assert pair.gap >= 0.25
        assert pair.chosen.reward >= 0.5
    texts = [(one.chosen.answer, one.chosen.text_key, one.rejected.answer, one.rejected.text_key) for one in found]
    assert len(set(texts)) == len(texts)
    kept = {(one.answer, one.text_key): one for one in sorted(group, key=lambda one: one.reward)}.values()
    possible = [(a, b) for a in kept for b in kept if a.answer != b.answer and a.reward - b.reward >= 0.25]
    assert bool(found) == any(a.reward >= 0.5 for a, _ in possible)
    random.shuffle(group)  # type: ignore[attr-defined]
    assert preference_pairs(group, rule) == found


@pytest.mark.parametrize(
    "rule",
    [
        BestRule(0),
        BestRule(min_reward=1.5),
        PairRule(0),
        PairRule(min_gap=0.0),
        PairRule(min_gap=2.0),
        PairRule(min_reward=-1),
    ],
)
def test_numbers_out_of_range(rule: BestRule | PairRule) -> None:
    with pytest.raises(InputError, match="ask for|use "):
        rule.check()
