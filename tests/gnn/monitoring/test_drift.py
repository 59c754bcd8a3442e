"""Drift warnings: given if rollouts differ from the training queries, and only then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.hetero import some_rollouts, subgraph
from memstore_gnn.models.origin import Origin, digests, origin_bytes, origin_of, read_origin
from memstore_gnn.monitoring.drift import Drift, Reference, reference_of

DIMENSION = 12


def rollouts(
    build_snapshot: Callable[..., Snapshot], queries: int, words: int = 8, dataset: str = "sums", lean: int = 0
) -> Snapshot:
    """Queries with four rollouts of about `words` words; their vectors are near the axis `lean`."""
    rng = np.random.default_rng(words + lean)
    rows: list[dict[str, Any]] = []
    query_x = {}
    for number in range(queries):
        text = f"{dataset}: how much is {number} + {words}?"
        vector = 0.4 * rng.normal(size=DIMENSION) + np.eye(DIMENSION)[lean]
        query_x[text] = (vector / np.linalg.norm(vector)).astype(np.float32)
        for sample in range(4):
            thinking = " ".join(["well"] * int(rng.poisson(words))) + f" {number} + {words} = {number + words}."
            row = {"query": text, "dataset": dataset, "value": str(number + words + int(rng.random() < 0.3))}
            rows.append(row | {"thinking": thinking, "sample_index": sample, "reward": 1.0})
    return build_snapshot(rows, query_x, dimension=DIMENSION)


def reference(snapshot: Snapshot) -> Reference:
    return reference_of(snapshot, np.ones(snapshot.queries.num_rows, bool))


def held_out(snapshot: Snapshot, rng: np.random.Generator) -> Drift:
    """Drift of one half of the queries from the other half."""
    learnt = rng.permutation(snapshot.queries.num_rows) % 2 == 0
    rest = subgraph(snapshot, snapshot.queries["id"].to_numpy()[~learnt].tolist())
    return reference_of(snapshot, learnt).drift(rest)


def test_similar_rollouts_give_no_warning(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot, rng = rollouts(build_snapshot, 60), np.random.default_rng(0)
    for _ in range(10):
        drift = held_out(snapshot, rng)
        assert (drift.drifted, drift.sentence()) == (False, None)
        (one,) = drift.datasets
        assert (one.dataset, one.queries, one.against, one.learnt) == ("sums", 30, "sums", 30)


def test_groups_of_another_size_are_no_drift(build_snapshot: Callable[..., Snapshot]) -> None:
    whole = rollouts(build_snapshot, 60)
    halves = some_rollouts(whole, np.arange(whole.thinkings.num_rows) % 2 == 0)
    for trained_on, scored in ((whole, halves), (halves, whole)):
        assert not reference(trained_on).drift(scored).drifted


def test_longer_thinkings_are_reported(build_snapshot: Callable[..., Snapshot]) -> None:
    drift = reference(rollouts(build_snapshot, 60)).drift(rollouts(build_snapshot, 20, words=40))
    assert drift.drifted
    named = {shift.feature: shift for shift in drift.datasets[0].shifts}
    assert named["log_length"].shift > 2
    assert not any(name.startswith("query vectors") for name in named)
    sentence = str(drift.sentence())
    assert sentence.startswith("the 20 queries of 'sums' differ from the 60 training queries of this dataset (")
    assert " sd" in sentence
    assert "\n" not in sentence


def test_other_queries_are_reported_by_their_vectors(build_snapshot: Callable[..., Snapshot]) -> None:
    drift = reference(rollouts(build_snapshot, 60)).drift(rollouts(build_snapshot, 20, lean=3))
    assert any(shift.feature.startswith("query vectors") for shift in drift.datasets[0].shifts)


def test_a_new_dataset_is_compared_with_all_training_queries(build_snapshot: Callable[..., Snapshot]) -> None:
    learnt = reference(rollouts(build_snapshot, 60))
    alike = learnt.drift(rollouts(build_snapshot, 20, dataset="other")).datasets[0]
    assert (alike.against, alike.learnt, alike.shifts) == ("", 60, ())
    unlike = learnt.drift(rollouts(build_snapshot, 20, words=40, dataset="other"))
    assert "the 20 queries of 'other' differ from all 60 training queries (" in str(unlike.sentence())


def test_few_queries_give_no_warning(build_snapshot: Callable[..., Snapshot]) -> None:
    learnt = reference(rollouts(build_snapshot, 60))
    assert not learnt.drift(rollouts(build_snapshot, 1, words=14)).drifted
    assert learnt.drift(rollouts(build_snapshot, 60, words=14)).drifted


def test_an_empty_snapshot_has_no_drift(build_snapshot: Callable[..., Snapshot]) -> None:
    assert reference(rollouts(build_snapshot, 20)).drift(build_snapshot([], dimension=DIMENSION)).as_json() == {
        "drifted": False,
        "datasets": [],
    }


def test_labels_are_not_read(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = rollouts(build_snapshot, 20)
    column = snapshot.thinkings.column_names.index("reward")
    blind = replace(snapshot, thinkings=snapshot.thinkings.set_column(column, "reward", [[None] * 80]))
    for name, array in reference(snapshot).arrays().items():
        assert np.array_equal(array, reference(blind).arrays()[name]), name


def test_an_origin_is_saved_and_read(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = rollouts(build_snapshot, 30)
    learnt = np.arange(30) < 20
    origin = origin_of(snapshot, learnt)
    again = read_origin(origin_bytes(origin))
    assert isinstance(again, Origin)
    assert np.array_equal(again.learnt, np.sort(digests(snapshot.queries["id"].to_pylist()[:20])))
    assert (len(again.labelled), again.reference.names) == (30, origin.reference.names)
    new = rollouts(build_snapshot, 20, words=40)
    assert again.reference.drift(new) == origin.reference.drift(new)


def test_two_training_queries_are_too_few_for_a_comparison(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = rollouts(build_snapshot, 20)
    assert not reference_of(snapshot, np.arange(20) < 2).drift(snapshot).drifted


def test_a_model_without_training_queries_has_no_drift(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = rollouts(build_snapshot, 20)
    origin = read_origin(origin_bytes(origin_of(snapshot, np.zeros(20, bool))))
    assert (len(origin.learnt), len(origin.labelled)) == (0, 20)
    assert origin.reference.drift(snapshot).as_json() == {"drifted": False, "datasets": []}
