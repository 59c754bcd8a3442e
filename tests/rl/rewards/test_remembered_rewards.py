"""Remembered rewards: verdicts of the memory on answers, and everything that must not reveal one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memstore.embedding.cached import embed_cached
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.types import Domain
from memstore_gnn.data.visibility import audit_of
from memstore_gnn.models.stored_model import open_model, seen_by
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.memory_model import MemoryModel
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout, Shaping
from memstore_rl.service.wire import ScoreRequest, request_json
from memstore_rl.verifiers import Attempt, Verdict, Verifiers

Open = Callable[..., GroupScorer]
Rows = dict[str, list[dict[str, Any]]]


class Recording(Verifiers):
    """Finds every answer right and records what it was asked."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked: list[Attempt] = []

    def check(self, domain: Domain, attempts: Sequence[Attempt]) -> list[Verdict]:
        self.asked += attempts
        return [Verdict(1.0)] * len(attempts)


@pytest.fixture
def open_scorer(trained_memory: Memory) -> Open:
    """Opens a scorer over a changed snapshot of the memory, with a changed card of its model."""

    def scorer(
        verifiers: Verifiers | None = None,
        changed: Snapshot | None = None,
        shaping: Shaping = "probability",
        **card: Any,
    ) -> GroupScorer:
        model = open_model(trained_memory, None, "cpu")
        model = replace(model, card=replace(model.card, **card))
        embed = partial(embed_cached, trained_memory.embedder, trained_memory.cache)
        opened = MemoryModel(model, changed or trained_memory.snapshot(), embed)
        return GroupScorer(opened, verifiers=verifiers, shaping=shaping)

    return scorer


@pytest.fixture
def seen(trained_memory: Memory) -> set[str]:
    """Texts of the queries whose labels the model may see: half of those in the memory."""
    snapshot = trained_memory.snapshot()
    visible = seen_by(open_model(trained_memory, None, "cpu"), snapshot).queries
    texts = snapshot.queries["text"].to_pylist()
    return {text for text, shown in zip(texts, visible, strict=True) if shown}


def asking(groups: Sequence[Group]) -> list[Group]:
    """The same groups, of queries whose label nobody withholds."""
    return [replace(group, query=replace(group.query, remember=True)) for group in groups]


def sources(rewards: Sequence[Reward]) -> set[str]:
    return {reward.source for reward in rewards}


def test_answers_within_the_budget_are_remembered_and_right(
    open_scorer: Open, groups: list[Group], sample_rows: Rows, seen: set[str]
) -> None:
    with open_scorer() as scorer:
        scored, withheld = scorer.score_groups(asking(groups)), scorer.score_groups(groups)
    assert len(seen) == 20
    for group, rewards, predicted, rows in zip(groups, scored, withheld, sample_rows.values(), strict=True):
        assert sources(predicted) == {"predicted"}
        if group.query.text not in seen:
            # Other groups of a batch can move a sum of float32 by its last digit, and rewards have six decimals.
            assert [reward.value for reward in rewards] == pytest.approx([one.value for one in predicted], abs=2e-6)
            assert sources(rewards) == {"predicted"}
            continue
        assert sources(rewards) == {"remembered"}
        assert [reward.value for reward in rewards] == [row["reward"] for row in rows[:8]]
        assert {reward.judged_by for reward in rewards} <= {"ground_truth", "gold"}
        assert {(reward.probability == reward.value, reward.model) for reward in rewards} == {(True, None)}
        assert all(reward.judged_at for reward in rewards if reward.judged_by == "ground_truth")


def test_planted_labels_and_golds_outside_the_budget_are_never_used(
    open_scorer: Open, trained_memory: Memory, groups: list[Group], seen: set[str]
) -> None:
    """All labels of the memory are right and every gold is `cheat`; the verifier is asked within the budget only."""
    snapshot, verifiers = trained_memory.snapshot(), Recording()
    planted = replace(
        snapshot,
        thinkings=_set(snapshot.thinkings, "reward", pa.array(np.ones(snapshot.thinkings.num_rows))),
        queries=_set(snapshot.queries, "gold", pa.array(["cheat"] * snapshot.queries.num_rows)),
    )
    new = [replace(group, rollouts=[Rollout(answer="-17"), *group.rollouts]) for group in asking(groups)]
    with open_scorer(verifiers, planted) as scorer:
        scored = scorer.score_groups(new)
    assert {attempt.query for attempt in verifiers.asked} == seen
    for group, rewards in zip(new, scored, strict=True):
        assert sources(rewards) == ({"remembered"} if group.query.text in seen else {"predicted"})


def test_a_stored_gold_judges_an_answer_that_was_never_seen(
    open_scorer: Open, groups: list[Group], seen: set[str]
) -> None:
    group = next(group for group in asking(groups) if group.query.text in seen)
    with open_scorer() as scorer:
        rewards = scorer.score_group(group.query, [Rollout(answer="-17"), Rollout(answer=""), *group.rollouts])
    assert [(reward.value, reward.judged_by) for reward in rewards[:2]] == [(0.0, "gold")] * 2


@pytest.mark.parametrize("hidden", ["audit", "hidden_runs"])
def test_audit_queries_and_queries_of_hidden_runs_are_predicted(
    open_scorer: Open, trained_memory: Memory, groups: list[Group], seen: set[str], hidden: str
) -> None:
    snapshot, verifiers = trained_memory.snapshot(), Recording()
    group = next(group for group in asking(groups) if group.query.text in seen)
    card = {"audit": sorted(audit_of([group.query.text]))} if hidden == "audit" else {"hidden_runs": ["test-set"]}
    if hidden == "hidden_runs":  # another run labelled this query too, and its labels stay
        query = snapshot.queries["text"].to_pylist().index(group.query.text)
        edges = snapshot.edges["generates"]
        runs = snapshot.thinkings["run"].to_pylist()
        runs[int(edges.target[edges.source == query][0])] = "test-set"
        snapshot = replace(snapshot, thinkings=_set(snapshot.thinkings, "run", pa.array(runs)))
    with open_scorer(verifiers, snapshot, **card) as scorer:
        rewards = scorer.score_groups(asking(groups))
    assert verifiers.asked == [] or group.query.text not in {attempt.query for attempt in verifiers.asked}
    for other, of_group in zip(groups, rewards, strict=True):
        shown = other.query.text in seen and other.query.text != group.query.text
        assert sources(of_group) == ({"remembered"} if shown else {"predicted"})


def test_modes_without_a_model_remember_nothing(open_scorer: Open, groups: list[Group], seen: set[str]) -> None:
    group = next(group for group in asking(groups) if group.query.text in seen)
    with open_scorer() as scorer:
        for mode in ("oracle", "budget"):
            assert sources(scorer.score_groups([replace(group, mode=mode)])[0]) == {"unscored"}


def test_ground_truth_of_the_trainer_comes_first(open_scorer: Open, groups: list[Group], seen: set[str]) -> None:
    group = next(group for group in asking(groups) if group.query.text in seen)
    with open_scorer() as scorer:
        rewards = scorer.score_group(replace(group.query, gold="-17"), group.rollouts)
        unreadable = scorer.score_group(replace(group.query, gold="\\frac{"), group.rollouts)
    assert {(reward.source, reward.value) for reward in rewards} == {("ground_truth", 0.0)}
    assert sources(unreadable) == {"remembered"}
    assert all("cannot be read" in (reward.reason or "") for reward in unreadable)


def test_residual_beside_remembered_verdicts_has_the_scale_of_probabilities(
    open_scorer: Open, trained_memory: Memory, groups: list[Group], seen: set[str]
) -> None:
    """The memory knows wrong answers only, so that other answers of their queries are predicted."""
    snapshot = trained_memory.snapshot()
    wrong = [value if value == 0 else None for value in snapshot.thinkings["reward"].to_pylist()]
    changed = replace(
        snapshot,
        thinkings=_set(snapshot.thinkings, "reward", pa.array(wrong, pa.float64())),
        queries=_set(snapshot.queries, "gold", pa.nulls(snapshot.queries.num_rows, pa.string())),
    )
    with open_scorer(changed=changed, shaping="residual") as scorer:
        scored = scorer.score_groups([group for group in asking(groups) if group.query.text in seen])
    mixed = [rewards for rewards in scored if sources(rewards) == {"predicted", "remembered"}]
    assert mixed
    for rewards in mixed:
        assert not any(reward.silent for reward in rewards)
        assert {reward.value for reward in rewards if reward.source == "remembered"} == {0.0}
        value, chance, by_votes = np.array(
            [(one.value, one.probability, one.by_votes) for one in rewards if one.source == "predicted"]
        ).T
        residual = chance - by_votes
        assert value == pytest.approx(chance.mean() + residual - residual.mean(), abs=1e-5)


def test_a_request_says_whether_to_remember(groups: list[Group]) -> None:
    for remember in (True, False):
        group = replace(groups[0], query=replace(groups[0].query, remember=remember))
        sent = ScoreRequest.model_validate_json(request_json([group], record=False))
        assert sent.groups[0].to_group().query.remember == remember
    document = {"groups": [{"query": {"text": "1 + 1?"}, "rollouts": [{"answer": "2"}]}]}
    assert ScoreRequest.model_validate_json(json.dumps(document)).groups[0].to_group().query == RewardQuery("1 + 1?")


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
