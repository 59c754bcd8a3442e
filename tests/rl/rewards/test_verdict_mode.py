"""Mode verdict: what is bought, what is free, what the undecided get, and that the budget is never exceeded."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.types import Domain
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout, pair_counts
from memstore_rl.rewards.verdict_mode import GROUPS_WITHOUT_GOLD
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.verifiers import Attempt, Verdict, Verifiers


class Counting(Verifiers):
    """Compares texts, and records what it was asked."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked: list[Attempt] = []

    def check(self, domain: Domain, attempts: Sequence[Attempt]) -> list[Verdict]:
        self.asked.extend(attempts)
        if domain == "other":
            return [Verdict(None, "answers of domain other cannot be verified")] * len(attempts)
        return [Verdict(float(one.answer.strip() == one.gold.strip())) for one in attempts]


@pytest.fixture
def verifiers() -> Counting:
    return Counting()


Open = Callable[..., GroupScorer]


@pytest.fixture
def scorer(verifiers: Counting) -> Iterator[Open]:
    """Return a function that opens a scorer without a memory."""
    opened: list[GroupScorer] = []

    def make(calls: int | None = None, total: int | None = None, wait_s: float = 60.0) -> GroupScorer:
        budget = VerifierBudget(calls, total, wait_s)
        opened.append(GroupScorer(None, mode="verdict", verifier_budget=budget, verifiers=verifiers))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def group(
    name: str, answers: Sequence[int | None], gold: int | None = 1, step: int | None = 1, **query: object
) -> Group:
    """A group whose rollouts give these answers; None: none."""
    asked = RewardQuery(
        f"what is the number {name}?", dataset="d", key=name, domain="math", gold=None if gold is None else str(gold)
    )
    texts = ["" if answer is None else str(answer) for answer in answers]
    rollouts = [Rollout(answer=text, run="r", step=step) for text in texts]
    return Group(replace(asked, **query), rollouts)  # type: ignore[arg-type]


def values(rewards: Sequence[Reward]) -> list[float | None]:
    return [reward.value for reward in rewards]


def sources(rewards: Sequence[Reward]) -> list[str]:
    return [reward.source for reward in rewards]


def test_a_wrong_verdict_counts_for_its_answer_only_and_the_undecided_share_a_value(scorer: Open) -> None:
    (rewards,) = scorer(calls=1).score_groups([group("q", [7, 7, 7, 1, 5, 7])])
    assert values(rewards) == [0.0, 0.0, 0.0, 0.25, 0.25, 0.0]
    assert sources(rewards) == ["ground_truth"] * 3 + ["predicted"] * 2 + ["ground_truth"]
    assert [reward.pair for reward in rewards] == ["bought", None, None, "open", "open", None]
    assert [reward.probability for reward in rewards] == [None] * 3 + [0.25, 0.25, None]
    assert all("calls are spent" in (rewards[place].reason or "") for place in (3, 4))
    assert all("shrunk shares" in (rewards[place].reason or "") for place in (3, 4))


def test_a_right_verdict_settles_the_group_at_once(scorer: Open, verifiers: Counting) -> None:
    (rewards,) = scorer(calls=9).score_groups([group("q", [1, 1, 5, 7, None])])
    assert values(rewards) == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert sources(rewards) == ["ground_truth", "ground_truth", "remembered", "remembered", "ground_truth"]
    assert len(verifiers.asked) == 1
    assert {reward.judged_by for reward in rewards} == {"ground_truth"}


def test_a_right_program_settles_nothing(scorer: Open, verifiers: Counting) -> None:
    programs = ["def f(): return 1", "def f(): return 2", "def f(): return 3"]
    query = RewardQuery("write f", dataset="d", key="p", domain="code", gold=programs[0])
    rollouts = [Rollout(answer=program, step=1) for program in programs]
    (rewards,) = scorer(calls=3).score_groups([Group(query, rollouts)])
    assert len(verifiers.asked) == 3
    assert values(rewards) == [1.0, 0.0, 0.0]
    (again,) = scorer(calls=1).score_groups([Group(query, rollouts)])
    assert values(again) == [1.0, 0.4, 0.4]


def test_the_answers_of_most_worth_are_bought(scorer: Open, verifiers: Counting) -> None:
    groups = [group("a", [2, 3, 4, 5]), group("b", [2, 2, 3, 3]), group("c", [2] * 8)]
    scorer(calls=3).score_groups(groups)
    # The worths are 1/4 x 1/3 x 2/3, twice 1/2 x 1/2 x 1/2, and 1 x 9/10 x 1/10.
    asked = [(one.query[-2], one.answer) for one in verifiers.asked]
    assert asked == [("b", "2"), ("b", "3"), ("c", "2")]


def test_verdicts_are_kept_for_the_run(scorer: Open, verifiers: Counting) -> None:
    opened = scorer(calls=1)
    opened.score_groups([group("q", [7, 7, 1])])
    (rewards,) = opened.score_groups([group("q", [7, 1, 1], step=2)])
    assert [(one.source, one.value) for one in rewards] == [("remembered", 0.0)] + [("ground_truth", 1.0)] * 2
    (rewards,) = opened.score_groups([group("q", [7, 1, 9], step=3)])
    assert values(rewards) == [0.0, 1.0, 0.0]
    assert sources(rewards) == ["remembered"] * 3
    assert len(verifiers.asked) == 2
    counts = opened.verdict_counts
    assert counts is not None
    assert (counts.calls, counts.right, counts.wrong, counts.remembered, counts.open) == (2, 1, 1, 4, 1)


def test_requests_of_a_step_share_its_budget(scorer: Open, verifiers: Counting) -> None:
    opened = scorer(calls=2)
    for name in "abc":
        opened.score_groups([group(name, [7, 8])])
    assert len(verifiers.asked) == 2
    opened.score_groups([group("c", [7, 8], step=2)])
    assert len(verifiers.asked) == 4
    for name in "de":
        opened.score_groups([group(name, [7, 8], step=None), group(f"{name}2", [7, 8], step=None)])
    assert len(verifiers.asked) == 8


def test_the_total_ends(scorer: Open, verifiers: Counting) -> None:
    opened = scorer(total=3)
    for step in range(5):
        opened.score_groups([group(f"q{step}", [7, 8], step=step)])
    assert len(verifiers.asked) == 3


def test_the_same_query_twice_in_a_batch_is_bought_once(scorer: Open, verifiers: Counting) -> None:
    first, second = scorer(calls=5).score_groups([group("q", [7, 7, 8]), group("q", [7, 8, 8])])
    assert sorted(one.answer for one in verifiers.asked) == ["7", "8"]
    assert values(first) == values(second) == [0.0] * 3
    pairs = pair_counts(first + second)
    assert pairs is not None
    assert (pairs.calls, pairs.wrong) == (2, 2)


def test_a_query_without_gold_is_undecided_and_other_modes_do_not_change(scorer: Open, verifiers: Counting) -> None:
    oracle = replace(group("o", [1, 7]), mode="oracle")
    open_, judged = scorer(calls=5).score_groups([group("q", [1, 7, None], gold=None), oracle])
    assert len(set(values(open_))) == 1
    assert all(one.silent and "no gold answer" in (one.reason or "") for one in open_)
    assert values(judged) == [1.0, 0.0]
    assert {one.pair for one in judged} == {None}


def test_an_answer_that_cannot_be_judged_is_asked_once(scorer: Open, verifiers: Counting) -> None:
    opened = scorer(calls=5)
    for step in (1, 2):
        (rewards,) = opened.score_groups([group("q", [1, 7], step=step, domain="other")])
        assert sources(rewards) == ["predicted"] * 2
        assert "domain other cannot be verified" in (rewards[0].reason or "")
    assert len(verifiers.asked) == 2


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({}, "needs a budget of verifier calls; set verifier_calls"),
        ({"calls": 0}, "verifier_calls is 0, and a budget without calls buys no verdict; set 1 or more"),
        ({"calls": -3}, "verifier_calls is -3"),
        ({"calls": 3, "total": 0}, "verifier_total is 0"),
        ({"calls": 3, "wait_s": -1.0}, "verifier_wait is -1 s; it must be 0 or a number of seconds above 0"),
        ({"calls": 3, "wait_s": float("nan")}, "verifier_wait is nan s"),
        ({"calls": 3, "wait_s": "3"}, "verifier_wait is '3'; it must be 0 or a number of seconds above 0"),
        ({"calls": 1.5}, r"verifier_calls is 1\.5; it must be a whole number from 1"),
        ({"calls": True}, "verifier_calls is True; it must be a whole number from 1"),
        ({"calls": float("nan")}, "verifier_calls is nan; it must be a whole number from 1"),
        ({"total": "3"}, "verifier_total is '3'; it must be a whole number from 1"),
    ],
)
def test_an_invalid_budget_is_an_error(budget: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VerifierBudget(**budget)  # type: ignore[arg-type]


def test_an_unknown_mode_is_named_before_a_model_is_missed(tmp_path: Path) -> None:
    with (
        Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory,
        pytest.raises(InputError, match="there is no mode 'nope'; use one of oracle, budget, memory, verdict"),
    ):
        GroupScorer.open(memory, mode="nope")  # type: ignore[arg-type]


def test_the_mode_needs_a_budget() -> None:
    with pytest.raises(InputError, match="mode verdict needs a budget of verifier calls"):
        GroupScorer.open(mode="verdict")
    with (
        GroupScorer.open(mode="budget") as scorer,
        pytest.raises(InputError, match="mode verdict needs a budget of verifier calls"),
    ):
        scorer.score_groups([replace(group("q", [1]), mode="verdict")])


def test_a_run_without_any_gold_stops(scorer: Open) -> None:
    opened = scorer(calls=1)
    for number in range(GROUPS_WITHOUT_GOLD - 1):
        opened.score_groups([group(f"q{number}", [1], gold=None)])
    with pytest.raises(InputError, match="none of the 32 groups so far has a gold answer, so mode verdict cannot buy"):
        opened.score_groups([group("last", [1], gold=None)])
    assert values(opened.score_groups([replace(group("v", [1]), mode="oracle")])[0]) == [1.0]
    other = scorer(calls=1)
    other.score_groups([group("labelled", [1])])
    for number in range(2 * GROUPS_WITHOUT_GOLD):
        other.score_groups([group(f"q{number}", [1], gold=None)])


@pytest.mark.parametrize("together", [True, False])
def test_a_query_has_one_gold_answer(scorer: Open, verifiers: Counting, together: bool) -> None:
    opened, (first, second) = scorer(calls=9), (group("q", [1], gold=1), group("q", [2], gold=2))
    if not together:
        opened.score_groups([first])
    with pytest.raises(InputError, match="'q' has the gold answer '2' here and '1' before; mode verdict keeps one"):
        opened.score_groups([first, second] if together else [second])
    assert len(verifiers.asked) == (not together)
    assert values(opened.score_groups([group("q", [1, 2], gold=1), group("q", [2], gold=None)])[0]) == [1.0, 0.0]


Answers = st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=1, max_size=6)
Sent: TypeAlias = tuple[str, list[int | None], int | None]
"""Name of the query, answers and step of a group."""
Batches = st.lists(
    st.lists(st.tuples(st.sampled_from("abcd"), Answers, st.one_of(st.none(), st.integers(1, 2))), max_size=4),
    max_size=5,
)


@settings(max_examples=80, deadline=None)
@given(batches=Batches, calls=st.integers(1, 3), total=st.one_of(st.none(), st.integers(1, 6)))
def test_budget_order_and_equal_answers(batches: list[list[Sent]], calls: int, total: int | None) -> None:
    golds = {"a": 1, "b": 2, "c": 1, "d": 9}
    runs = []
    for _ in range(2):
        verifiers, spent, scored = Counting(), Counter[object](), []
        budget = VerifierBudget(calls, total)
        with GroupScorer(None, mode="verdict", verifier_budget=budget, verifiers=verifiers) as scorer:
            for number, batch in enumerate(batches):
                rewards = scorer.score_groups([group(name, given, golds[name], step) for name, given, step in batch])
                check_batch(batch, rewards, golds)
                for (_, _, step), of_group in zip(batch, rewards, strict=True):
                    pairs = pair_counts(of_group)
                    spent[("call", number) if step is None else step] += pairs.calls if pairs is not None else 0
                    scored.append(values(of_group))
            counts = scorer.verdict_counts
        assert counts is not None
        assert counts.calls == len(verifiers.asked) == spent.total()
        assert len({(one.query, one.answer) for one in verifiers.asked}) == len(verifiers.asked)
        assert total is None or counts.calls <= total
        assert max(spent.values(), default=0) <= calls
        runs.append(scored)
    assert runs[0] == runs[1]


def check_batch(
    batch: Sequence[tuple[str, list[int | None], int | None]],
    rewards: Sequence[Sequence[Reward]],
    golds: dict[str, int],
) -> None:
    """Decided rollouts have the truth, equal answers have equal rewards, and the undecided of a group share one."""
    of_answer: dict[tuple[int, int | None], set[float | None]] = defaultdict(set)
    assert [len(one) for one in rewards] == [len(answers) for _, answers, _ in batch]
    for number, ((name, answers, _), of_group) in enumerate(zip(batch, rewards, strict=True)):
        for answer, reward in zip(answers, of_group, strict=True):
            of_answer[number, answer].add(reward.value)
            if reward.source != "predicted":
                assert reward.value == float(answer == golds[name])
        assert len({one.value for one in of_group if one.source == "predicted"}) <= 1
        assert all(one.silent == (one.source == "predicted") for one in of_group) or not any(
            one.silent for one in of_group
        )
    assert all(len(found) == 1 for found in of_answer.values())


def test_a_memory_without_a_model_remembers(tmp_path: Path, verifiers: Counting) -> None:
    rows = [
        {"query": "what is the number q?", "query_id": "q", "dataset": "d", "domain": "math", "policy": "p"}
        | {"response": f"#### {answer}", "sample_index": place, "reward": reward}
        for place, (answer, reward) in enumerate([(7, 0.0), (8, 0.0)])
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    budget = VerifierBudget(1)
    with (
        Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory,
        GroupScorer.open(memory, mode="verdict", verifier_budget=budget, verifiers=verifiers) as scorer,
    ):
        (rewards,) = scorer.score_groups([group("q", [7, 8, 1])])
        assert sources(rewards) == ["ground_truth", "predicted", "predicted"]
        assert {one.known for one in rewards} == {False}
        memory.ingest([tmp_path / "rows.jsonl"])
        scorer.refresh()
        (rewards,) = scorer.score_groups([group("q", [7, 8, 1], step=2)])
        assert [(one.source, one.value) for one in rewards] == [
            ("remembered", 0.0),
            ("remembered", 0.0),
            ("ground_truth", 1.0),
        ]
        assert {one.known for one in rewards} == {True}
        (hidden,) = scorer.score_groups([group("q2", [7], step=3, remember=False)])
        assert hidden[0].source == "ground_truth"
    assert len(verifiers.asked) == 3


def test_the_model_of_a_memory_says_what_is_worth_most(trained_memory: Memory, groups: list[Group]) -> None:
    golds = [replace(one, query=replace(one.query, gold="1")) for one in groups]
    with GroupScorer.open(trained_memory, mode="memory") as predicting:
        predicted = predicting.score_groups(groups)
    budget = VerifierBudget(calls=3)
    verifiers = Counting()
    with GroupScorer.open(trained_memory, mode="verdict", verifier_budget=budget, verifiers=verifiers) as scorer:
        rewards = scorer.score_groups(golds)
    assert len(verifiers.asked) == 3
    for before, after in zip(predicted, rewards, strict=True):
        open_ = [place for place, one in enumerate(after) if one.source == "predicted"]
        assert [after[place].probability for place in open_] == [before[place].probability for place in open_]
        assert [after[place].by_votes for place in open_] == [before[place].by_votes for place in open_]
        assert {after[place].model for place in open_} <= {before[0].model}
    open_reasons = {one.reason for of_group in rewards for one in of_group if one.source == "predicted"}
    assert all("by the reward model" in (reason or "") for reason in open_reasons)
