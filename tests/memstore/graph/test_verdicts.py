"""The rule that derives verdicts from labels."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa

from memstore.graph.verdicts import ANSWER_LABELS, NO_TIME, judge, with_verdicts

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def judged(*labels: tuple[str, float | None, str | None, dt.datetime | None]) -> list[tuple[Any, ...]]:
    """Verdict, source and time of the answers a, b and c."""
    columns = [
        pa.array(column, kind) for column, kind in zip(zip(*labels, strict=True), ANSWER_LABELS.types, strict=True)
    ]
    table = with_verdicts(pa.table({"id": ["a", "b", "c"]}), pa.Table.from_arrays(columns, schema=ANSWER_LABELS))
    return [tuple(row.values())[1:] for row in table.to_pylist()]


def test_only_labels_of_the_answers_count() -> None:
    found = judged(("b", 1.0, "ground_truth", NOW), ("c", None, None, NOW), ("d", 0.0, "person", NOW))
    assert found == [(None, None, None), (1.0, "ground_truth", NOW), (None, None, None)]


def test_a_person_overrides_and_the_first_label_that_counts_gives_the_time() -> None:
    day = dt.timedelta(days=1)
    labels = [("a", 0.0, "ground_truth", NOW), ("a", 1.0, "person", NOW + 2 * day), ("a", 0.75, "person", NOW + day)]
    assert judged(*labels, ("b", 1.0, None, None))[:2] == [
        (0.875, "person", NOW + day),
        (1.0, "ground_truth", None),
    ]


def test_the_order_of_labels_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    answer = rng.integers(0, 5, 500)
    reward, person = rng.random(500) / 3, rng.random(500) < 0.1
    stored_at = np.where(rng.random(500) < 0.1, NO_TIME, rng.integers(0, 10**15, 500))
    first = judge(answer, reward, person, stored_at)
    for _ in range(5):
        order = rng.permutation(500)
        again = judge(answer[order], reward[order], person[order], stored_at[order])
        for name, values in vars(first).items():
            assert np.array_equal(values, vars(again)[name]), name
