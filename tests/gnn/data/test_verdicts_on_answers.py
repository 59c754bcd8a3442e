"""Verdicts on answers: which labels say what about which answers, and who may see them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memstore.errors import InputError
from memstore.records.ids import answer_id
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.splits import label_budget
from memstore_gnn.data.verdicts import Verdict, Verdicts, verdicts_of
from memstore_gnn.data.visibility import (
    EVERYTHING,
    Visibility,
    audit_of,
    check_hidden,
    text_digest,
    visible,
    visible_split,
)
from tests.gnn.snapshots import build_snapshot


def rows(*labels: tuple[str, float | None], query: str = "1 + 1?", **changes: Any) -> list[dict[str, Any]]:
    """Rollouts of one query with these answers and labels."""
    return [{"query": query, "value": value, "reward": reward, **changes} for value, reward in labels]


def verdicts(snapshot: Snapshot, visibility: Visibility = EVERYTHING) -> Verdicts:
    return verdicts_of(snapshot, visible(snapshot, visibility))


def value(snapshot: Snapshot, found: Verdicts, answer: str | None, query: int = 0) -> float | None:
    """The verdict on an answer of a query, by the answer's value."""
    name = snapshot.queries["id"][query].as_py()
    verdict = found.on(name, None if answer is None else answer_id(name, answer))
    return None if verdict is None else verdict.value


@pytest.mark.parametrize(
    ("domain", "labels", "expected"),
    [
        ("math", [("2", 1.0), ("3", None)], {"2": 1.0, "3": 0.0, "4": 0.0, None: 0.0}),  # right settles the query
        ("qa", [("B", 1.0)], {"B": 1.0, "A": 0.0, None: 0.0}),
        ("code", [("return 2", 1.0)], {"return 2": 1.0, "return 1+1": None, None: None}),  # many answers are right
        ("other", [("yes", 1.0)], {"yes": 1.0, "Yes.": None}),  # only equal answers share
        ("math", [("3", 0.0)], {"3": 0.0, "2": None, None: None}),  # wrong says nothing of the others
        ("math", [("2", 1.0), ("2.0", 1.0)], {"2": 1.0, "2.0": 1.0, "3": 0.0}),  # two forms of the right value
        ("math", [("2", None)], {"2": None}),
        ("math", [("2", 0.0), ("2", 0.4)], {"2": 0.2}),  # part of the tests; both are wrong
    ],
)
def test_a_label_is_a_verdict_on_its_answer(
    domain: str, labels: list[tuple[str, float | None]], expected: dict[str | None, float | None]
) -> None:
    snapshot = build_snapshot(rows(*labels, domain=domain))
    found = verdicts(snapshot)
    assert {answer: value(snapshot, found, answer) for answer in expected} == expected


def test_a_verdict_holds_for_its_own_query_only() -> None:
    snapshot = build_snapshot([*rows(("2", 1.0)), *rows(("2", None), query="3 - 1?")])
    found = verdicts(snapshot)
    texts = snapshot.queries["text"].to_pylist()
    assert value(snapshot, found, "2", texts.index("1 + 1?")) == 1.0
    assert value(snapshot, found, "2", texts.index("3 - 1?")) is None


def test_a_verdict_says_who_judged_and_when() -> None:
    snapshot = build_snapshot([*rows(("2", 1.0)), *rows(("2", 1.0), reward_source="person")])
    times = pa.array([1_000_000, 2_000_000], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    column = snapshot.thinkings.column_names.index("created_at")
    thinkings = snapshot.thinkings.set_column(column, "created_at", times)
    person = snapshot.thinkings["reward_source"].to_pylist().index("person")
    found = verdicts(Snapshot(**{**vars(snapshot), "thinkings": thinkings}))
    (verdict,) = found.answers.values()
    assert verdict == Verdict(1.0, "person", f"1970-01-01T00:00:0{person + 1}+00:00")


def test_labels_that_contradict_each_other_give_no_verdict_and_one_warning() -> None:
    snapshot = build_snapshot(rows(("2", 1.0), ("2", 0.0), ("2", 1.0), ("3", 0.0)))
    found = verdicts(snapshot)
    assert (value(snapshot, found, "2"), value(snapshot, found, "3"), value(snapshot, found, "4")) == (None, 0.0, None)
    warning = found.warning() or ""
    assert "1 answer has labels that contradict each other" in warning
    assert "(2 right in toy, 1 wrong in toy)" in warning
    assert verdicts(build_snapshot(rows(("2", 1.0)))).warning() is None


def test_two_right_answers_where_one_value_is_right_are_one_warning() -> None:
    snapshot = build_snapshot([*rows(("2", 1.0), ("two", 1.0), ("3", None)), *rows(("5", 1.0), query="2 + 3?")])
    found = verdicts(snapshot)
    [query] = [row["id"] for row in snapshot.queries.to_pylist() if row["text"] == "1 + 1?"]
    assert set(found.two_right) == {query}
    warning = found.warning() or ""
    assert warning.startswith("1 query has two right answers by the labels where one value is right")
    assert all(name in warning for name in (query, answer_id(query, "2"), answer_id(query, "two")))
    assert {found.on(query, answer_id(query, one)).value for one in ("2", "two")} == {1.0}  # type: ignore[union-attr]
    assert verdicts(build_snapshot(rows(("x", 1.0), ("y", 1.0), domain="code"))).warning() is None


def test_a_person_overrides_the_verifier() -> None:
    snapshot = build_snapshot([*rows(("2", 0.0), ("2", 0.0)), *rows(("2", 1.0), reward_source="person")])
    found = verdicts(snapshot)
    assert value(snapshot, found, "2") == 1.0
    assert found.contradictions


def test_a_snapshot_without_rollouts_or_labels_has_no_verdicts() -> None:
    assert verdicts(build_snapshot([])) == Verdicts()
    assert verdicts(build_snapshot(rows(("", 0.0), ("2", None)))) == Verdicts()


def many(queries: int = 20, **changes: Any) -> Snapshot:
    """One labelled right rollout and a reference answer for each of many queries."""
    return build_snapshot(
        [row for q in range(queries) for row in rows((str(q), 1.0), query=f"{q} + 0?", gold=str(q), **changes)]
    )


def cheats(snapshot: Snapshot, visibility: Visibility) -> np.ndarray:
    """Queries of which anything can be recalled, bool [Q]."""
    found = verdicts(snapshot, visibility)
    names = snapshot.queries["id"].to_pylist()
    leads, answers = snapshot.edges["leads_to"], snapshot.answers["id"].to_pylist()
    query_of = dict(zip(leads.target.tolist(), query_of_thinkings(snapshot)[leads.source].tolist(), strict=True))
    judged = {names[query] for answer, query in query_of.items() if answers[answer] in found.answers}
    known = judged | set(found.settled) | set(found.golds)
    return np.array([name in known for name in names])


@pytest.mark.parametrize("budget", [0.0, 0.2, 1.0])
def test_nothing_is_remembered_outside_the_label_budget(budget: float) -> None:
    snapshot = many()
    shown = label_budget(snapshot, budget, 3).labelled
    assert np.array_equal(cheats(snapshot, Visibility(budget, 3)), shown)
    assert shown.sum() == round(budget * 20)


@pytest.mark.parametrize("budget", [None, 0.5])
def test_nothing_is_remembered_of_audit_queries(budget: float | None) -> None:
    """The audit query hides the same question in another data set, with other white space, too."""
    snapshot = build_snapshot(
        [
            *rows(("1", 1.0), query="0 + 1?", gold="1"),
            *rows(("1", 1.0), query=" 0 +  1?\n", gold="1", dataset="copied"),
            *[row for q in range(8) for row in rows((str(q), 1.0), query=f"{q} * 1?", gold=str(q))],
        ]
    )
    audit = Visibility(budget, 0, audit=audit_of(["0 + 1?"]))
    hidden = np.array([text.split() == ["0", "+", "1?"] for text in snapshot.queries["text"].to_pylist()])
    assert hidden.any()
    assert not cheats(snapshot, audit)[hidden].any()
    if budget is None:
        assert cheats(snapshot, audit)[~hidden].all()
        assert cheats(snapshot, EVERYTHING).all()


def test_a_hidden_run_hides_its_queries_also_where_another_run_labelled_them() -> None:
    """A training must not see its own test set: neither the labels of the test run nor another run's on its queries."""
    snapshot = build_snapshot(
        [
            *rows(("1", None), query="test?", run="evaluation"),
            *rows(("1", 1.0), query="test?", run="earlier", gold="1"),
            *rows(("1", 1.0), query="train?", run="earlier", gold="1"),
        ]
    )
    test = np.array([text == "test?" for text in snapshot.queries["text"].to_pylist()])
    seen = visible(snapshot, Visibility(hidden_runs=frozenset({"evaluation"})))
    assert np.array_equal(seen.queries, ~test)
    assert np.array_equal(cheats(snapshot, Visibility(hidden_runs=frozenset({"evaluation"}))), ~test)
    assert not np.isfinite(seen.reward[test[query_of_thinkings(snapshot)]]).any()


def test_hidden_queries_are_for_the_report_and_do_not_move_the_draw() -> None:
    snapshot = many()
    drawn = label_budget(snapshot, 0.5, 0)
    text = snapshot.queries["text"].to_pylist()[int(np.flatnonzero(drawn.train)[0])]
    split = visible_split(snapshot, Visibility(0.5, 0, audit_of([text])), 0.5)
    moved = drawn.labelled & ~split.labelled
    assert moved.sum() == 1
    assert np.array_equal(split.report, drawn.report | moved)


def test_hiding_nothing_is_an_error() -> None:
    snapshot = many(3)
    with pytest.raises(InputError, match="no run 'evalution'"):
        check_hidden(snapshot, Visibility(hidden_runs=frozenset({"evalution"})))
    with pytest.raises(InputError, match="none of the audit queries"):
        check_hidden(snapshot, Visibility(audit=audit_of(["5 + 5?"])))
    with pytest.raises(InputError, match="texts=True"):
        visible(
            Snapshot(**{**vars(snapshot), "queries": snapshot.queries.drop_columns(["text"])}),
            Visibility(audit=frozenset({"x"})),
        )
    check_hidden(snapshot, Visibility(audit=audit_of(["0 + 0?"]), hidden_runs=frozenset({"run"})))


def test_digests_of_texts_ignore_white_space_only() -> None:
    assert text_digest("a  b\n") == text_digest("a b")
    assert text_digest("a b") != text_digest("a B")
    assert json.dumps(sorted(audit_of(["a", "b"])))
