"""What a memory knows about new policies, by situation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memstore.errors import InputError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import AUDIT_SPLIT
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.evaluation.situations import RULES, SITUATIONS, cases_of, evaluate_situations, means

Build = Callable[..., Snapshot]
SIMPLE = [name for name in RULES if name not in ("reward model", "as ingested")]


def rows(queries: int = 24, policies: int = 6) -> list[dict[str, Any]]:
    """Sums by policies of which each next one is right less often; wrong answers differ by policy."""
    chance = np.random.default_rng(0)
    made = []
    for query in range(queries):
        for policy in range(policies):
            right = chance.random() < 0.9 - 0.1 * policy
            made.append(
                {"query": f"What is {query} + 1?", "dataset": "sums", "domain": "math", "gold": str(query + 1)}
                | {"policy": f"p{policy}", "value": str(query + 1 if right else 100 + policy % 3)}
                | {"thinking": f"{query} and one", "reward": float(right)}
            )
    return made


@pytest.fixture(scope="module")
def snapshot(build_snapshot: Build) -> Snapshot:
    return build_snapshot(rows())


def test_a_case_shows_no_reward_or_gold_of_the_new_half(snapshot: Snapshot) -> None:
    for situation in SITUATIONS:
        for case in cases_of(snapshot, situation, 0):
            assert np.isnan(rewards_of(case.new)).all()
            assert case.new.queries["gold"].null_count == case.new.queries.num_rows
            np.testing.assert_array_equal(rewards_of(case.memory), case.reward)
            stored, new = (set(part.thinkings["policy"].to_pylist()) for part in (case.memory, case.new))
            assert not stored & new
            shared = set(case.memory.queries["id"].to_pylist()) & set(case.new.queries["id"].to_pylist())
            assert bool(shared) == situation.seen
            assert len(case.truth) == case.new.thinkings.num_rows


def test_the_situations_differ_in_the_labels(snapshot: Snapshot) -> None:
    share = {s.name: np.isfinite(cases_of(snapshot, s, 0)[0].reward).mean() for s in SITUATIONS}
    assert share["labelled"] == 1.0
    assert share["unlabelled"] == 0.0
    assert 0.0 < share["partly"] < 0.5


def test_labels_of_audit_queries_are_visible_to_no_rule(snapshot: Snapshot) -> None:
    aliases = snapshot.edges["in"]
    audit = np.array(snapshot.queries["text"].to_pylist())[aliases.source] == "What is 3 + 1?"
    split = pa.array(np.where(audit, AUDIT_SPLIT, "train").tolist())
    marked = replace(aliases, properties=aliases.properties.drop(["split"]).append_column("split", split))
    case = cases_of(replace(snapshot, edges={**snapshot.edges, "in": marked}), SITUATIONS[0], 0)[0]
    assert SITUATIONS[0].name == "labelled"
    texts = np.array(case.memory.queries["text"].to_pylist())
    seen = np.isfinite(case.reward)
    assert set(texts[query_of_thinkings(case.memory)[~seen]].tolist()) == {"What is 3 + 1?"}
    assert np.isfinite(case.truth).all()


def test_known_answers_are_right_and_more_votes_help(snapshot: Snapshot) -> None:
    found = {(row.situation, row.rule): row for row in means(evaluate_situations(snapshot, seeds=[0, 1], rules=SIMPLE))}
    assert found["labelled", "known answers"].auc > 0.95
    assert found["labelled", "votes of all"].auc > found["labelled", "votes of the group"].auc
    assert found["labelled", "votes of the group"].gap == pytest.approx(0.0)
    assert found["unlabelled", "known answers"][5:] == found["unlabelled", "Dawid-Skene"][5:]


def test_the_reward_model_remembers(snapshot: Snapshot) -> None:
    (labelled, *_) = SITUATIONS
    found = means(
        evaluate_situations(snapshot, seeds=[0], situations=[labelled], rules=["known answers", "as ingested"])
    )
    known, ours = found
    assert ours.auc == pytest.approx(known.auc, abs=0.02)


def test_one_policy_is_split_by_sample_index(build_snapshot: Build) -> None:
    one = [{**row, "policy": "p", "sample_index": int(row["policy"][1:])} for row in rows()]
    for case in cases_of(build_snapshot(one), SITUATIONS[0], 0):
        stored, new = (set(part.thinkings["sample_index"].to_pylist()) for part in (case.memory, case.new))
        assert stored
        assert new
        assert not stored & new


def test_what_cannot_be_split_or_is_unknown_is_one_sentence(build_snapshot: Build, snapshot: Snapshot) -> None:
    with pytest.raises(InputError, match="ingest rollouts of another policy"):
        cases_of(build_snapshot([{**row, "sample_index": 0} for row in rows(4, 1)]), SITUATIONS[0], 0)
    with pytest.raises(InputError, match="there is no rule 'luck'"):
        evaluate_situations(snapshot, rules=["luck"])
