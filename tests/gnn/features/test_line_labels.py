"""Labels of shared lines: known values, and a query's own labels never reach its rollouts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.line_labels import MARKS, LabelledLines, line_table, marks_of, read_lines

WORDS = ("adds the first", "adds the second", "takes the third", "doubles it")


def features(snapshot: Snapshot, reward: FloatVector) -> FeatureTable:
    """Features of a memory's rollouts by its own labels."""
    groups = groups_of(snapshot)
    lines = read_lines(snapshot, groups)
    labelled = LabelledLines.of(lines, groups, reward)
    return line_table(lines, groups, labelled, np.arange(snapshot.queries.num_rows))


def memory_of(build: Callable[..., Snapshot], rows: list[tuple[str, str, float | None]]) -> Snapshot:
    """A memory of rows with query, thinking and label."""
    return build([{"query": q, "value": "1", "thinking": text, "reward": label} for q, text, label in rows])


def by_row(snapshot: Snapshot, values: np.ndarray) -> list[float]:
    """Values in the order in which the rows were given."""
    order = np.argsort(snapshot.thinkings["sample_index"].to_numpy())
    return [round(float(value), 4) for value in values[order]]


def test_values_of_a_small_memory(build_snapshot: Callable[..., Snapshot]) -> None:
    """Line a is right in p; line b is right in p, and right and wrong in q, where a third of the rollouts is right."""
    rows = [
        ("p", "step a", 1.0),
        ("p", "step b", 1.0),
        ("q", "step b", 1.0),
        ("q", "step c", 0.0),
        ("q", "step b", 0.0),
    ]
    snapshot = memory_of(build_snapshot, [*rows, ("new", "step a\nstep b", None), ("new", "step d", None)])
    table = features(snapshot, rewards_of(snapshot))

    def right(a: float, n: float) -> float:
        return round(float(np.log((a + 0.5) / (n + 1)) - np.log(0.5)), 4)

    # For the rollouts of p, only q counts: `a` is unknown there, and one of two rollouts with `b` is right.
    both = round(right(1, 1) + right(2, 3), 4)
    assert by_row(snapshot, table.column("line_right_sum"))[:3] == [0.0, right(1, 2), right(1, 1)]
    assert by_row(snapshot, table.column("line_right_sum"))[5:] == pytest.approx([both, 0.0], abs=2e-4)
    assert by_row(snapshot, table.column("line_right_min"))[5:] == [right(2, 3), 0.0]
    assert by_row(snapshot, table.column("line_right_sum-group"))[5:] == pytest.approx([both / 2, -both / 2], abs=2e-4)
    assert by_row(snapshot, table.column("line_known"))[5:] == pytest.approx([np.log(3), 0.0], abs=1e-4)
    assert by_row(snapshot, table.column("line_known_share"))[5:] == [1.0, 0.0]
    # In q, two thirds of a right rollout with `b` are expected, and one is right. In p, all are expected to be right.
    excess = np.log(2.5 / (1 + 2 / 3 + 0.5)) - np.log(1.5 / (3 - 1 - 2 / 3 + 0.5))
    assert by_row(snapshot, table.column("line_excess_sum"))[5] == pytest.approx(excess, abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(queries=st.integers(1, 5), size=st.integers(1, 4), seed=st.integers(0, 10_000), data=st.data())
def test_own_labels_never_reach_own_rollouts(
    build_snapshot: Callable[..., Snapshot], queries: int, size: int, seed: int, data: st.DataObject
) -> None:
    """The features of a query depend on its own labels in no bit, also if labels are fractions."""
    rng = np.random.default_rng(seed)
    texts = ["\n".join(rng.choice(WORDS, rng.integers(0, 4))) for _ in range(queries * size)]
    snapshot = memory_of(build_snapshot, [(f"q{i // size}", text, None) for i, text in enumerate(texts)])
    query = query_of_thinkings(snapshot)
    reward = np.where(rng.random(len(query)) < 0.7, rng.random(len(query)), np.nan)
    mine = query == data.draw(st.integers(0, queries - 1))
    changed = np.where(mine, np.where(rng.random(len(query)) < 0.5, rng.random(len(query)), np.nan), reward)
    before, after = features(snapshot, reward), features(snapshot, changed)
    np.testing.assert_array_equal(before.values[mine], after.values[mine])


def test_another_querys_labels_do(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = memory_of(build_snapshot, [("p", "step a", None), ("q", "step a", None)])
    first = query_of_thinkings(snapshot) == 0
    sums = [features(snapshot, np.where(first, label, np.nan)).column("line_right_sum")[~first][0] for label in (0, 1)]
    assert sums[0] < 0 < sums[1]


@pytest.mark.parametrize("texts", [["", ""], ["3 + 4 = 7", "8"]], ids=["empty", "no words"])
def test_without_lines_the_features_are_zero(build_snapshot: Callable[..., Snapshot], texts: list[str]) -> None:
    snapshot = memory_of(build_snapshot, [(name, text, 1.0) for name, text in zip("pq", texts, strict=True)])
    assert not features(snapshot, rewards_of(snapshot)).values.any()


def test_without_labels_the_features_are_zero(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = memory_of(build_snapshot, [("p", "step a", None), ("q", "step a", None)])
    assert not features(snapshot, np.full(2, np.nan)).values.any()


def test_the_line_that_no_right_rollout_has_takes_the_blame(build_snapshot: Callable[..., Snapshot]) -> None:
    """In p, `step b` alone explains the wrong rollout; in q nothing tells which of the lines is wrong."""
    rows = [
        ("p", "step a", 1.0),
        ("p", "step a\nstep b", 0.0),
        ("q", "step c\nstep d", 0.0),
        *((query, text, None) for query, text in [("x", "step a"), ("y", "step b"), ("z", "step c")]),
    ]
    snapshot = memory_of(build_snapshot, rows)
    found = by_row(snapshot, features(snapshot, rewards_of(snapshot)).column("line_credit_sum"))
    credit = [np.log((n - b + 0.5) / (b + 0.5)) for n, b in ((2, 0), (1, 1), (1, 0.5))]
    assert found[3:] == pytest.approx(credit, abs=1e-4)


@pytest.mark.parametrize(
    ("thinking", "marks"),
    [
        ("5 - 3 = 2", []),
        ("5 - 3 = 1", [0]),
        ("6 - 3 = 3, of 5", [1]),
        ("5 - 1 = 4", [2]),
        ("so 3 of 5 are left", []),
        ("", [2]),
    ],
)
def test_marks_of_a_thinking(thinking: str, marks: list[int]) -> None:
    assert marks_of(thinking, frozenset({5.0, 3.0})) == [MARKS[mark] for mark in marks]


def test_counts_of_marks_outside_are_added(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [("p of 5", "6 - 5 = 2", 0.0), ("q of 5", "6 - 5 = 2", 0.0), ("r of 5", "6 - 5 = 2", None)]
    whole = memory_of(build_snapshot, rows)
    lines, groups = read_lines(whole, groups_of(whole)), groups_of(whole)
    reward = rewards_of(whole)
    both = LabelledLines.of(lines, groups, reward)
    first, second = (
        LabelledLines.of(lines, groups, np.where(query_of_thinkings(whole) == q, reward, np.nan)) for q in (0, 1)
    )
    np.testing.assert_array_equal(first.with_marks(second.marks).marks, both.marks)
    assert both.marks[0].tolist() == [2.0, 2.0, 0.0]
    assert not both.queries_sharing(lines).size


def test_queries_sharing_a_line(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = memory_of(build_snapshot, [("p", "step a\nstep c", 1.0), ("q", "step b", 0.0), ("r", "step a", None)])
    groups = groups_of(snapshot)
    labelled = LabelledLines.of(read_lines(snapshot, groups), groups, rewards_of(snapshot))
    other = memory_of(build_snapshot, [("new", "step a\nstep d", None)])
    found = labelled.queries_sharing(read_lines(other, groups_of(other)))
    assert [snapshot.queries["text"][query].as_py() for query in found.tolist()] == ["p"]
