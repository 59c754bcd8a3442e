"""Reprs and HTML of the reward model's results."""

from __future__ import annotations

import numpy as np
import pytest

from memstore.html_table import html_table
from memstore_gnn.data.groups import batches_of_distinct_queries
from memstore_gnn.evaluation.evaluate import EvaluationRow
from memstore_gnn.scoring.score import Scores
from memstore_gnn.verbs import ScoreSummary, TrainSummary

ROW = EvaluationRow("sums", "memstore", 0.2, 0, 12, 96, 0.9, 0.8, 0.8, 0.7, 0.75, 0.05, float("nan"), 0.1)
SCORES = Scores(
    np.array(["t-1", "t-<2>"], object), np.array([0.25, 0.75]), np.array([0.25, 1.0]),
    np.array(["predicted", "ground_truth"], object), np.full(2, None, object), np.full(2, None, object),
)  # fmt: skip
SUMMARY = TrainSummary("m-1", "s-1", {"train": 8, "select": 2, "report": 12}, [ROW], 1.25)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ROW, "EvaluationRow('memstore' on 'sums', budget=20%, seed=0: auc=0.900, advantage_soft=0.750, ece=0.050; "
              "12 queries, 96 rollouts)"),
        (SCORES, "Scores(2 rollouts: 1 ground_truth, 1 predicted, mean probability 0.500)"),
        (Scores(*(column[:0] for column in SCORES)), "Scores(0 rollouts)"),
        (SUMMARY, "TrainSummary('m-1', queries: 8 train, 2 select, 12 report; auc=0.900, advantage_soft=0.750, "
                  "ece=0.050; 1.2 s)"),
        (ScoreSummary(1234, "m-1", 2.0, "out.jsonl", None, 0.1, 5),
         "ScoreSummary(1,234 rollouts by 'm-1', 5 abstained (band 0.100), output='out.jsonl'; 2.0 s)"),
    ],
)  # fmt: skip
def test_repr_is_one_line(result: object, expected: str) -> None:
    assert repr(result) == expected


def test_html_has_a_row_for_each_result_and_escapes_text() -> None:
    assert SCORES._repr_html_().count("<tr>") == 3
    assert "t-&lt;2&gt;" in SCORES._repr_html_()
    assert "<th>predictor</th>" in SUMMARY._repr_html_()
    assert "<td>0.900</td>" in SUMMARY._repr_html_()
    assert html_table(("a", "b"), [(None, float("nan"))]).count("<td></td>") == 2


def test_batches_hold_one_group_of_each_query() -> None:
    assert batches_of_distinct_queries(["a", "b", "a", "a", "c", "b"]) == [[0, 1, 4], [2, 5], [3]]
    assert batches_of_distinct_queries([]) == []
