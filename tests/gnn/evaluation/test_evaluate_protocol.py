"""Evaluation protocol: labels are hidden from predictors, and rows and summaries are complete."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from memstore.errors import InputError, ModelError
from memstore.graph.protocol import EdgeTable
from memstore.graph.verdicts import VERDICT_COLUMNS, labels_by_answer, with_verdicts
from memstore.records.ids import rollout_id
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.baselines.constant import Constant
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.evaluation.evaluate import Prediction, evaluate, hide_labels, summary

POLICIES = ("right", "wrong", "odd")


@pytest.fixture(scope="module")
def snapshot(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """Two data sets of 30 queries; policy `right` is right, `wrong` is wrong, `odd` is right on every other query."""
    rows = []
    for dataset in ("one", "two"):
        for i in range(30):
            for policy in POLICIES:
                good = policy == "right" or (policy == "odd" and i % 2 == 0)
                row = {"query": f"{dataset} {i}", "dataset": dataset, "policy": policy, "run": f"of {policy}"}
                row |= {"gold": str(i), "sample_index": POLICIES.index(policy), "step": POLICIES.index(policy)}
                rows.append(row | {"value": str(i if good else -1 - i), "reward": float(good), "metadata": '{"ok": 1}'})
    return build_snapshot(rows)


class Cheat:
    """Predictor that searches a snapshot for labels, and otherwise guesses from the policy of a rollout."""

    name = "cheat"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        query = query_of_thinkings(snapshot)
        found = rewards_of(snapshot)
        gold = snapshot.queries["gold"].to_pylist()
        leads = snapshot.edges["leads_to"]
        values = snapshot.answers["value"].to_pylist()
        for source, target in zip(leads.source, leads.target, strict=True):
            if gold[query[source]] is not None:
                found[source] = float(gold[query[source]] == values[target])
        scored = snapshot.edges["scored_by"]
        found[scored.source] = scored.properties["probability"].to_numpy()
        known = np.isfinite(reward)
        for trait in self.traits(snapshot):
            for name in set(trait):
                mine = np.array([other == name for other in trait])
                if name is not None and (known & mine).any():
                    found[mine & ~np.isfinite(found)] = reward[known & mine].mean()
        assert not (known & ~(train | select)[query]).any()
        return np.where(known, 0.5, np.where(np.isfinite(found), found, 0.5))

    def traits(self, snapshot: Snapshot) -> list[list[str | None]]:
        """Values that can reveal the policy: columns, runs, and the policies whose digest is the rollout's id."""
        columns = [
            [None if value is None else str(value) for value in snapshot.thinkings[name].to_pylist()]
            for name in ("policy", "run", "step", "sample_index", "metadata")
        ]
        made_by: list[str | None] = [None] * snapshot.thinkings.num_rows
        produced = snapshot.edges["produced"]
        for run, rollout in zip(produced.source, produced.target, strict=True):
            made_by[rollout] = snapshot.runs["policy"][int(run)].as_py()
        return [*columns, made_by, [self.guess(snapshot, row) for row in range(snapshot.thinkings.num_rows)]]

    def guess(self, snapshot: Snapshot, row: int) -> str | None:
        """The policy whose name gives the rollout's id."""
        leads = snapshot.edges["leads_to"]
        query = snapshot.queries["id"][int(query_of_thinkings(snapshot)[row])].as_py()
        answer = leads.properties["text"][int(np.flatnonzero(leads.source == row)[0])].as_py()
        for place, policy in enumerate(POLICIES):
            origin = {"policy": policy, "run": f"of {policy}", "step": place, "sample_index": place, "occurrence": 0}
            if rollout_id(query, **origin, thinking="", answer=answer) == snapshot.thinkings["id"][row].as_py():
                return policy
        return None


def test_predictor_that_searches_for_labels_finds_none(snapshot: Snapshot) -> None:
    count = snapshot.thinkings.num_rows
    scores = {
        "probability": pa.array(rewards_of(snapshot)),
        "reward": pa.array(rewards_of(snapshot)),
        "scored_at": pa.nulls(count, pa.timestamp("us", tz="UTC")),
    }
    scored = EdgeTable(np.arange(count), np.zeros(count, np.int64), pa.table(scores))
    models = pa.table({"id": ["m"], "version": [1], "snapshot": ["s"], "metrics": ["{}"], "path": [""]})
    telling = replace(snapshot, edges={**snapshot.edges, "scored_by": scored}, reward_models=models)
    honest = Cheat().fit_predict(telling, np.full(count, np.nan), np.zeros(60, bool), np.zeros(60, bool), 0)
    np.testing.assert_array_equal(honest, rewards_of(snapshot))  # the search succeeds if labels are not hidden
    for row in evaluate(telling, [Cheat()], budgets=[0.3], seeds=[0, 1]):
        assert row.auc == 0.5
        assert row.advantage_soft == 0.0


@pytest.mark.parametrize("trait", [0, 1, 2, 3, 5, 6])
def test_each_trait_reveals_the_policy_if_it_is_not_hidden(snapshot: Snapshot, trait: int) -> None:
    cheat, hidden = Cheat(), hide_labels(snapshot)
    policies = snapshot.thinkings["policy"].to_pylist()
    values = cheat.traits(snapshot)[trait]
    assert len(set(zip(values, policies, strict=True))) == len(POLICIES)
    after = cheat.traits(hidden)[trait]
    assert trait == 0 or set(after) == {None}
    assert trait != 0 or len(set(after)) == snapshot.thinkings.num_rows


def test_hiding_keeps_groups_that_were_sampled_together(snapshot: Snapshot) -> None:
    hidden = hide_labels(snapshot)
    query = query_of_thinkings(snapshot)
    before = list(zip(query, snapshot.thinkings["policy"].to_pylist(), strict=True))
    after = hidden.thinkings["policy"].to_pylist()
    assert len(set(after)) == len(set(before)) == len(set(zip(before, after, strict=True)))
    assert hidden.thinkings["reward"].null_count == snapshot.thinkings.num_rows
    assert snapshot.thinkings["reward"].null_count == 0
    assert (hidden.policies.num_rows, len(hidden.edges["wrote"])) == (0, 0)


def test_hiding_removes_verdicts(snapshot: Snapshot) -> None:
    labels = labels_by_answer(snapshot.answers["id"], snapshot.thinkings, snapshot.edges["leads_to"])
    telling = replace(snapshot, answers=with_verdicts(snapshot.answers, labels))
    assert telling.answers["verdict"].null_count < snapshot.answers.num_rows
    for name in VERDICT_COLUMNS:
        assert hide_labels(telling).answers[name].null_count == snapshot.answers.num_rows


def test_one_row_for_each_data_set_predictor_budget_and_seed(snapshot: Snapshot) -> None:
    kept: list[Prediction] = []
    lines: list[str] = []
    rows = evaluate(
        snapshot, [Constant(), VoteShare()], budgets=[0.2, 0.5], seeds=[0, 1], progress=lines.append, keep=kept.append
    )
    assert len(rows) == len(kept) == 2 * 2 * 2 * 2
    assert len(lines) == 2 * 2 * 2
    assert {(row.dataset, row.queries, row.rollouts) for row in rows if row.budget == 0.2} == {
        ("one", 24, 72),
        ("two", 24, 72),
    }
    assert list(rows[0].to_json()) == [
        "dataset", "predictor", "budget", "seed", "queries", "rollouts", "auc", "accuracy", "pair_accuracy",
        "advantage_hard", "advantage_soft", "ece", "brier", "aurc",
    ]  # fmt: skip
    assert all(row.auc == 0.5 for row in rows if row.predictor == "constant")
    assert len(kept[0].probability) == len(kept[0].reward) == 72


def test_skipped_combinations_are_not_evaluated(snapshot: Snapshot) -> None:
    rows = evaluate(
        snapshot, [Constant(), VoteShare()], budgets=[0.2], seeds=[0, 1], skip=lambda name, _, seed: seed == 1
    )
    assert {(row.predictor, row.seed) for row in rows} == {("constant", 0), ("vote_share", 0)}


def test_report_is_limited_to_the_named_data_sets(snapshot: Snapshot) -> None:
    rows = evaluate(snapshot, [VoteShare()], budgets=[0.2], seeds=[0], datasets=["two"])
    assert [row.dataset for row in rows] == ["two"]
    with pytest.raises(InputError, match="no data set three; it has one, two"):
        evaluate(snapshot, [VoteShare()], datasets=["three"])


def test_undefined_metric_is_null_in_json(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [{"query": str(i), "value": "1", "reward": 1.0} for i in range(10)]
    row = evaluate(build_snapshot(rows), [VoteShare()], budgets=[0.2], seeds=[0])[0].to_json()
    assert row["auc"] is None
    assert row["advantage_soft"] is None
    assert json.loads(json.dumps(row, allow_nan=False))["accuracy"] == 1.0


class Broken(Constant):
    name = "broken"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        return np.full(len(reward), np.nan)


def test_prediction_outside_0_to_1_raises(snapshot: Snapshot) -> None:
    with pytest.raises(ModelError, match="broken did not return a probability"):
        evaluate(snapshot, [Broken()], budgets=[0.2], seeds=[0])


def test_summary_is_mean_and_standard_error_over_seeds(snapshot: Snapshot) -> None:
    rows = evaluate(snapshot, [VoteShare()], budgets=[0.2], seeds=[0, 1, 2], datasets=["one"])
    cell = next(row for row in summary(rows) if row.metric == "brier")
    values = np.array([row.brier for row in rows])
    assert cell.mean == pytest.approx(values.mean())
    assert cell.error == pytest.approx(values.std(ddof=1) / math.sqrt(3))
    assert math.isnan(next(iter(summary(rows[:1]))).error)
