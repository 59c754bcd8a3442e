"""Stored rollouts of the same query count by the reliability of their policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.verdicts import Verdicts, verdicts_of
from memstore_gnn.data.visibility import visible
from memstore_gnn.scoring.other_policies import StoredVotes, stored_votes
from memstore_gnn.scoring.score import score_rollouts

Build = Callable[..., Snapshot]
GOOD, BAD = ("good", 0.9), ("bad", 0.3)


def rollouts(domain: str = "math", queries: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    """Three samples of a good and of a bad policy for each query; the right answer is 0, and labels are known."""
    rng, rows = np.random.default_rng(seed), []
    for query in range(queries):
        for policy, skill in (GOOD, BAD):
            for sample in range(3):
                right = rng.random() < skill
                value = "0" if right else str(rng.integers(1, 6))
                row = {"query": f"query {query}?", "value": value, "policy": policy, "sample_index": sample}
                rows.append(row | {"domain": domain, "reward": float(right), "step": 1})
    return rows


def votes(build_snapshot: Build, rows: list[dict[str, Any]], labels: bool = True) -> StoredVotes:
    memory = build_snapshot(rows, dimension=16)
    return stored_votes(memory, verdicts_of(memory, visible(memory)) if labels else Verdicts())


def one(build_snapshot: Build, value: str, query: str = "open?", **changes: Any) -> Snapshot:
    return build_snapshot([{"query": query, "value": value, "policy": "new", "step": 9, **changes}], dimension=16)


def adjusted(stored: StoredVotes, new: Snapshot, probability: float = 0.5) -> list[float]:
    return stored.adjust(np.full(new.thinkings.num_rows, probability), new).tolist()


def stored_row(value: str, policy: str, **changes: Any) -> dict[str, Any]:
    return {"query": "open?", "value": value, "policy": policy, "step": 1, **changes}


def test_a_group_of_one_is_judged_by_what_others_answered(build_snapshot: Build) -> None:
    rows = [*rollouts(), stored_row("7", "good"), stored_row("7", "bad")]
    stored = votes(build_snapshot, rows)
    assert adjusted(stored, one(build_snapshot, "7"))[0] > 0.6
    assert adjusted(stored, one(build_snapshot, "8"))[0] < 0.4


@pytest.mark.parametrize("labels", [True, False])
def test_a_reliable_policy_counts_more(build_snapshot: Build, labels: bool) -> None:
    """Two policies disagree; the new rollout is believed where it agrees with the better one."""
    stored = votes(build_snapshot, [*rollouts(), stored_row("7", "good"), stored_row("8", "bad")], labels)
    (seven,), (eight,) = (adjusted(stored, one(build_snapshot, value)) for value in ("7", "8"))
    assert seven > eight
    found = stored.reliability["toy"][0]
    good, bad = (found.policy[stored.voters["toy", policy, 1]] for policy in ("good", "bad"))  # type: ignore[index]
    assert good > bad + 0.2


def test_many_samples_of_a_bad_policy_do_not_outvote_a_good_one(build_snapshot: Build) -> None:
    rows = [*rollouts(), *(stored_row("8", "bad", sample_index=n) for n in range(4)), stored_row("7", "good")]
    stored = votes(build_snapshot, rows)
    assert adjusted(stored, one(build_snapshot, "7"))[0] > adjusted(stored, one(build_snapshot, "8"))[0]


def test_without_stored_rollouts_nothing_changes(build_snapshot: Build) -> None:
    stored = votes(build_snapshot, rollouts())
    new = one(build_snapshot, "7", query="never seen?")
    probability = np.array([0.37])
    assert stored.adjust(probability, new) is probability
    assert votes(build_snapshot, []).adjust(probability, new) is probability


@pytest.mark.parametrize("run", ["r", "another"])  # a file's name can name the run, and then the id is another one
def test_a_group_does_not_vote_for_itself(build_snapshot: Build, run: str) -> None:
    own = {"query": "open?", "value": "7", "policy": "new", "step": 9, "sample_index": 0, "thinking": "7 it is"}
    stored = votes(build_snapshot, [*rollouts(), {**own, "run": "r"}])
    new = build_snapshot([{**own, "run": run}], dimension=16)
    same_id = set(new.thinkings["id"].to_pylist()) & set(stored.snapshot.thinkings["id"].to_pylist())
    assert bool(same_id) == (run == "r")
    assert adjusted(stored, new) == [0.5]


@pytest.mark.parametrize("other", [{"step": 10}, {"sample_index": 1}, {"thinking": "8 less 1"}])
def test_other_rollouts_of_the_same_policy_are_votes(build_snapshot: Build, other: dict[str, Any]) -> None:
    own = {"query": "open?", "value": "7", "policy": "new", "step": 9, "sample_index": 0, "thinking": "7 it is"}
    stored = votes(build_snapshot, [*rollouts(), own | other])
    assert adjusted(stored, build_snapshot([own], dimension=16))[0] > 0.5


@pytest.mark.parametrize("domain", ["code", "other"])
def test_domains_with_several_right_answers_are_left_alone(build_snapshot: Build, domain: str) -> None:
    rows = [*rollouts(domain), stored_row("7", "good", domain=domain)]
    stored = votes(build_snapshot, rows)
    assert adjusted(stored, one(build_snapshot, "8", domain=domain)) == [0.5]
    assert not stored.reliability


def test_a_rollout_without_an_answer_is_wrong(build_snapshot: Build) -> None:
    stored = votes(build_snapshot, [*rollouts(), stored_row("7", "good")])
    assert adjusted(stored, one(build_snapshot, ""), 0.2)[0] < 0.01


def test_rollouts_with_the_same_answer_move_alike(build_snapshot: Build) -> None:
    stored = votes(build_snapshot, [*rollouts(), stored_row("7", "good")])
    rows = [{"query": "open?", "value": value, "policy": "new", "sample_index": n} for n, value in enumerate("7787")]
    new = build_snapshot(rows, dimension=16)
    found = adjusted(stored, new)
    assert len(set(found)) == 2


def test_file_scores_use_stored_votes(trained: Any, build_snapshot: Build) -> None:
    new = build_snapshot(
        [{"query": "How much is 29 and 36?", "value": value, "policy": "new"} for value in ("65", "1000")], dimension=16
    )
    stored = stored_votes(trained.snapshot, Verdicts())
    plain = score_rollouts(trained.model, trained.snapshot, new, reward=trained.reward)
    scores = score_rollouts(trained.model, trained.snapshot, new, reward=trained.reward, stored=stored)
    expected = stored.adjust(plain.probability, new)
    assert scores.probability.tolist() == expected.tolist()
    assert not np.allclose(scores.probability, plain.probability)
    assert set(scores.source) == {"predicted"}


def test_the_model_counts_less_in_a_group_of_a_worse_policy(build_snapshot: Build) -> None:
    """The difference that its probability makes to the log odds, in groups of three with two answers."""
    moved = {}
    for policy, other in (("good", "bad"), ("bad", "good")):
        stored = votes(build_snapshot, [*rollouts(), *(stored_row("7", other, sample_index=n) for n in range(3))])
        rows = [stored_row(value, policy, sample_index=n) for n, value in enumerate("778")]
        new = build_snapshot(rows, dimension=16)
        high, low = (np.array(adjusted(stored, new, probability)) for probability in (0.7, 0.4))
        moved[policy] = float((np.log(high / (1 - high)) - np.log(low / (1 - low))).mean())
    whole = (1 - 1 / 9) * (np.log(0.7 / 0.3) - np.log(0.4 / 0.6))
    assert moved["good"] == pytest.approx(whole, abs=1e-3)
    assert 0.0 < moved["bad"] < 0.6 * whole
