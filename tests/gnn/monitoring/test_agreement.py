"""Agreement of a group's rollouts, and the warning if its distribution has changed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.models.origin import origin_bytes, origin_of, read_origin
from memstore_gnn.monitoring.agreement import DRAWN, VOTES, WIDTH, Matrix, moves, observed, sample
from memstore_gnn.monitoring.drift import reference_of


def voted(
    build_snapshot: Callable[..., Snapshot], groups: Sequence[Sequence[str]], run: str = "run", dataset: str = "sums"
) -> Snapshot:
    """Queries that differ in their answers only; "" is no answer."""
    rows: list[dict[str, Any]] = [
        {"query": f"{dataset} {number:04}", "dataset": dataset, "value": value, "reward": None}
        | {"thinking": "I add them.", "sample_index": sample, "run": run}
        for number, values in enumerate(groups)
        for sample, value in enumerate(values)
    ]
    return build_snapshot(rows)


def by_counting(values: Sequence[str]) -> list[float]:
    """The row of `observed` for a group, by enumerating all draws."""
    draws = Counter(
        max(Counter(value for value in drawn if value).values(), default=0)
        for drawn in itertools.combinations(values, DRAWN)
    )
    total = sum(draws.values())
    return [*(draws[votes] / total for votes in range(DRAWN, -1, -1)), sum(map(bool, values)) / len(values)]


def drawn_votes(rng: np.random.Generator, queries: int, size: int, sure: float, found: float = 1.0) -> list[list[str]]:
    """Answers of a policy: each exists with probability `found`, and is then "1" with probability `sure`."""
    return [
        [("1" if rng.random() < sure else str(rng.integers(2, 9))) if rng.random() < found else "" for _ in range(size)]
        for _ in range(queries)
    ]


def outcomes(build_snapshot: Callable[..., Snapshot], groups: Sequence[Sequence[str]]) -> Matrix:
    return sample(observed(voted(build_snapshot, groups)))


@settings(max_examples=50, deadline=None)
@given(groups=st.lists(st.lists(st.sampled_from(["1", "2", "3", ""]), min_size=DRAWN, max_size=8), max_size=5))
def test_probabilities_equal_those_of_all_draws(
    build_snapshot: Callable[..., Snapshot], groups: list[list[str]]
) -> None:
    snapshot = voted(build_snapshot, groups)
    for text, row in zip(snapshot.queries["text"].to_pylist(), observed(snapshot), strict=True):
        assert row == pytest.approx(by_counting(groups[int(text.split()[1])]), abs=1e-12)


def test_runs_are_separate_groups(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [
        {"query": "q", "value": value, "reward": None, "sample_index": index, "thinking": "t", "run": run}
        for run, values in (("a", "1111"), ("b", "2222"), ("c", "33"))
        for index, value in enumerate(values)
    ]
    assert observed(build_snapshot(rows)).tolist() == [[1, 0, 0, 0, 0, 1]]


def test_runs_of_one_rollout_each_form_one_group(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [
        {"query": "q", "value": value, "reward": None, "sample_index": 0, "thinking": "t", "run": f"run {index}"}
        for index, value in enumerate("11123")
    ]
    (row,) = observed(build_snapshot(rows))
    assert row == pytest.approx(by_counting("11123"))


def test_small_groups_have_no_outcome(build_snapshot: Callable[..., Snapshot]) -> None:
    small = voted(build_snapshot, [["1", "2", "3"]] * 12)
    assert np.isnan(observed(small)).all()
    assert reference_of(small, np.ones(12, bool)).drift(voted(build_snapshot, [["1"] * 8] * 12)).datasets[0].moves == ()


def test_the_same_policy_gives_no_warning_in_40_comparisons(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(0)
    rows = outcomes(build_snapshot, drawn_votes(rng, 240, 6, sure=0.5, found=0.9))
    for learnt in (5, 20, 120):
        for _ in range(40):
            order = rng.permutation(len(rows))
            assert moves(rows[order[:learnt]], rows[order[learnt : learnt + 60]]) == ()


def test_another_number_of_rollouts_is_no_change(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(0)
    few, many = (outcomes(build_snapshot, drawn_votes(rng, 120, size, sure=0.6)) for size in (4, 24))
    assert moves(few, many) == ()


def test_more_agreement_is_reported(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(0)
    learnt = voted(build_snapshot, drawn_votes(rng, 60, 8, sure=0.4))
    drift = reference_of(learnt, np.ones(60, bool)).drift(voted(build_snapshot, drawn_votes(rng, 30, 8, sure=0.95)))
    (move,) = drift.datasets[0].moves
    assert move.what == "agreement"
    assert move.learnt < 0.6 < 0.9 < move.scored
    assert drift.drifted
    assert f"of 4 rollouts {4 * move.scored:.1f} agree, and {4 * move.learnt:.1f} in training" in str(drift.sentence())


def test_another_distribution_with_the_same_mean_is_reported(build_snapshot: Callable[..., Snapshot]) -> None:
    """Three of four agree on every query, or four on one half and two pairs on the other: .75 either way."""
    learnt = outcomes(build_snapshot, [["1", "1", "1", "2"]] * 40)
    scored = outcomes(build_snapshot, [["1", "1", "1", "1"], ["1", "1", "2", "2"]] * 20)
    (move,) = moves(learnt, scored)
    assert (move.what, move.learnt, move.scored) == ("agreement", 0.75, 0.75)


def test_fewer_answers_are_reported(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(0)
    before, after = (outcomes(build_snapshot, drawn_votes(rng, 50, 8, sure=0.5, found=found)) for found in (0.98, 0.5))
    found = {move.what: move for move in moves(before, after)}
    answers = found["answers"]
    assert answers.description() == f"{answers.scored:.0%} of the rollouts have an answer, and 98% in training"


def test_three_queries_give_no_warning(build_snapshot: Callable[..., Snapshot]) -> None:
    sure, unsure = (outcomes(build_snapshot, [values] * 3) for values in (["1"] * 4, ["1", "2", "3", "4"]))
    assert moves(sure, unsure) == ()
    assert moves(np.repeat(sure, 4, axis=0), np.repeat(unsure, 4, axis=0)) != ()


def test_a_sample_is_bounded_and_drawn_from_all_queries(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = np.repeat(np.arange(4 * VOTES.max_queries, dtype=np.float64)[:, None], WIDTH, axis=1)
    rows[::2] = np.nan
    kept = sample(rows)
    assert kept.shape == (VOTES.max_queries, WIDTH)
    assert (kept[:, 0] % 2 == 1).all()
    assert kept[0, 0] < VOTES.max_queries < 3 * VOTES.max_queries < kept[-1, 0]
    assert np.array_equal(sample(rows), kept)


def test_a_model_saved_without_votes_still_reports_feature_drift(build_snapshot: Callable[..., Snapshot]) -> None:
    learnt = voted(build_snapshot, [["1", "2", "3", "4"]] * 20)
    origin = origin_of(learnt, np.ones(20, bool))
    arrays = load(origin_bytes(origin))
    old = read_origin(save({name: array for name, array in arrays.items() if not name.startswith("votes")}))
    scored = voted(build_snapshot, [["1"] * 8] * 20)
    (now,), (before,) = origin.reference.drift(scored).datasets, old.reference.drift(scored).datasets
    assert now.moves
    assert before.moves == ()
    assert before.shifts == now.shifts != ()
