"""How a policy votes: the numbers of a group, and a warning where their distribution has moved, and only there."""

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
from memstore_gnn.monitoring.agreement import DRAWN, KEPT, WIDTH, Matrix, moves, observed, sample
from memstore_gnn.monitoring.drift import reference_of


def voted(
    build_snapshot: Callable[..., Snapshot], groups: Sequence[Sequence[str]], run: str = "run", dataset: str = "sums"
) -> Snapshot:
    """Queries with these answers, "" for none; all else is the same."""
    rows: list[dict[str, Any]] = [
        {"query": f"{dataset} {number:04}", "dataset": dataset, "value": value, "reward": None}
        | {"thinking": "I add them.", "sample_index": sample, "run": run}
        for number, values in enumerate(groups)
        for sample, value in enumerate(values)
    ]
    return build_snapshot(rows)


def by_counting(values: Sequence[str]) -> list[float]:
    """What `observed` says of a group, by looking at every draw."""
    draws = Counter(
        max(Counter(value for value in drawn if value).values(), default=0)
        for drawn in itertools.combinations(values, DRAWN)
    )
    total = sum(draws.values())
    return [*(draws[votes] / total for votes in range(DRAWN, -1, -1)), sum(map(bool, values)) / len(values)]


def drawn_votes(rng: np.random.Generator, queries: int, size: int, sure: float, found: float = 1.0) -> list[list[str]]:
    """A policy that gives the same answer with this chance, and any answer at all with the other."""
    return [
        [("1" if rng.random() < sure else str(rng.integers(2, 9))) if rng.random() < found else "" for _ in range(size)]
        for _ in range(queries)
    ]


def shown(build_snapshot: Callable[..., Snapshot], groups: Sequence[Sequence[str]]) -> Matrix:
    return sample(observed(voted(build_snapshot, groups)))


@settings(max_examples=50, deadline=None)
@given(groups=st.lists(st.lists(st.sampled_from(["1", "2", "3", ""]), min_size=DRAWN, max_size=8), max_size=5))
def test_the_chances_are_those_of_all_draws(build_snapshot: Callable[..., Snapshot], groups: list[list[str]]) -> None:
    snapshot = voted(build_snapshot, groups)
    for text, row in zip(snapshot.queries["text"].to_pylist(), observed(snapshot), strict=True):
        assert row == pytest.approx(by_counting(groups[int(text.split()[1])]), abs=1e-12)


def test_rollouts_of_two_runs_are_two_groups(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [
        {"query": "q", "value": value, "reward": None, "sample_index": index, "thinking": "t", "run": run}
        for run, values in (("a", "1111"), ("b", "2222"), ("c", "33"))
        for index, value in enumerate(values)
    ]
    assert observed(build_snapshot(rows)).tolist() == [[1, 0, 0, 0, 0, 1]]


def test_rollouts_of_one_run_each_are_looked_at_together(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [
        {"query": "q", "value": value, "reward": None, "sample_index": 0, "thinking": "t", "run": f"run {index}"}
        for index, value in enumerate("11123")
    ]
    (row,) = observed(build_snapshot(rows))
    assert row == pytest.approx(by_counting("11123"))


def test_groups_that_are_too_small_show_nothing(build_snapshot: Callable[..., Snapshot]) -> None:
    small = voted(build_snapshot, [["1", "2", "3"]] * 12)
    assert np.isnan(observed(small)).all()
    assert reference_of(small, np.ones(12, bool)).drift(voted(build_snapshot, [["1"] * 8] * 12)).datasets[0].moves == ()


def test_the_same_policy_gives_no_warning_however_often_it_is_looked_at(
    build_snapshot: Callable[..., Snapshot],
) -> None:
    rng = np.random.default_rng(0)
    rows = shown(build_snapshot, drawn_votes(rng, 240, 6, sure=0.5, found=0.9))
    for learnt in (5, 20, 120):
        for _ in range(40):
            order = rng.permutation(len(rows))
            assert moves(rows[order[:learnt]], rows[order[learnt : learnt + 60]]) == ()


def test_the_number_of_rollouts_is_no_move(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(0)
    few, many = (shown(build_snapshot, drawn_votes(rng, 120, size, sure=0.6)) for size in (4, 24))
    assert moves(few, many) == ()


def test_a_policy_that_has_become_sure_is_noticed(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(0)
    learnt = voted(build_snapshot, drawn_votes(rng, 60, 8, sure=0.4))
    drift = reference_of(learnt, np.ones(60, bool)).drift(voted(build_snapshot, drawn_votes(rng, 30, 8, sure=0.95)))
    (move,) = drift.datasets[0].moves
    assert move.what == "agreement"
    assert move.learnt < 0.6 < 0.9 < move.scored
    assert drift.drifted
    assert f"of 4 rollouts {4 * move.scored:.1f} agree, {4 * move.learnt:.1f} did" in str(drift.sentence())


def test_the_same_mean_of_other_votes_is_a_move(build_snapshot: Callable[..., Snapshot]) -> None:
    """Three of four agree on every query, or four on one half and two pairs on the other: .75 either way."""
    learnt = shown(build_snapshot, [["1", "1", "1", "2"]] * 40)
    scored = shown(build_snapshot, [["1", "1", "1", "1"], ["1", "1", "2", "2"]] * 20)
    (move,) = moves(learnt, scored)
    assert (move.what, move.learnt, move.scored) == ("agreement", 0.75, 0.75)


def test_answers_that_are_no_longer_found_are_noticed(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(0)
    before, after = (shown(build_snapshot, drawn_votes(rng, 50, 8, sure=0.5, found=found)) for found in (0.98, 0.5))
    said = {move.what: move for move in moves(before, after)}
    assert said["answers"].description() == f"{said['answers'].scored:.0%} of the rollouts have an answer, 98% had"


def test_three_queries_are_no_reason_to_warn(build_snapshot: Callable[..., Snapshot]) -> None:
    sure, unsure = (shown(build_snapshot, [values] * 3) for values in (["1"] * 4, ["1", "2", "3", "4"]))
    assert moves(sure, unsure) == ()
    assert moves(np.repeat(sure, 4, axis=0), np.repeat(unsure, 4, axis=0)) != ()


def test_a_sample_is_bounded_and_drawn_from_all(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = np.repeat(np.arange(4 * KEPT, dtype=np.float64)[:, None], WIDTH, axis=1)
    rows[::2] = np.nan
    kept = sample(rows)
    assert kept.shape == (KEPT, WIDTH)
    assert (kept[:, 0] % 2 == 1).all()
    assert kept[0, 0] < KEPT < 3 * KEPT < kept[-1, 0]
    assert np.array_equal(sample(rows), kept)


def test_a_model_saved_before_votes_were_kept_still_warns_of_the_rest(build_snapshot: Callable[..., Snapshot]) -> None:
    learnt = voted(build_snapshot, [["1", "2", "3", "4"]] * 20)
    origin = origin_of(learnt, np.ones(20, bool))
    arrays = load(origin_bytes(origin))
    old = read_origin(save({name: array for name, array in arrays.items() if not name.startswith("votes")}))
    scored = voted(build_snapshot, [["1"] * 8] * 20)
    (now,), (before,) = origin.reference.drift(scored).datasets, old.reference.drift(scored).datasets
    assert now.moves
    assert before.moves == ()
    assert before.shifts == now.shifts != ()
