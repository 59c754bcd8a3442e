"""Scores of rollouts whose answer the memory knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import Visible
from memstore_gnn.scoring.abstain import Mode, abstain
from memstore_gnn.scoring.remembered import Question
from memstore_gnn.scoring.score import score_memory, score_rollouts
from memstore_gnn.scoring.score_lines import write_scores


def seen(trained: Any) -> Visible:
    """The labels that the model may see; those of the other queries stay in the snapshot."""
    shown = np.zeros(trained.snapshot.queries.num_rows, bool)
    shown[query_of_thinkings(trained.snapshot)[np.isfinite(trained.reward)]] = True
    return Visible(shown, trained.reward)


def new_rollouts(trained: Any, build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """A new policy's rollouts of a labelled query, of an unlabelled one and of one that the memory does not know."""
    rows = []
    labelled, unlabelled = numbers(trained)
    for number, values in ((labelled, (right(labelled), "1000", "")), (unlabelled, ("1", "1000")), (99, ("205",))):
        text = question(number)
        rows += [{"query": text, "value": value, "policy": "new", "thinking": f"It is {value}."} for value in values]
    return build_snapshot(rows, dimension=16)


def numbers(trained: Any) -> tuple[int, int]:
    """The numbers of a query with a right labelled rollout, and of one without visible labels."""
    texts, query = trained.snapshot.queries["text"].to_pylist(), query_of_thinkings(trained.snapshot)
    of = {question(number): number for number in range(30)}
    settled = int(query[np.flatnonzero(trained.reward == 1.0)[0]])
    hidden = int(query[np.flatnonzero(np.isnan(trained.reward))[0]])
    return of[texts[settled]], of[texts[hidden]]


def question(number: int) -> str:
    return f"How much is {number} and {number + 7}?"


def right(number: int) -> str:
    return str(2 * number + 7)


def by_value(new: Snapshot, column: np.ndarray) -> dict[tuple[str, str], Any]:
    texts, query = new.queries["text"].to_pylist(), query_of_thinkings(new)
    leads, values = new.edges["leads_to"], new.answers["value"].to_pylist()
    value = {int(rollout): values[answer] for rollout, answer in zip(leads.source, leads.target, strict=True)}
    return {(texts[query[row]], value.get(row, "")): column[row] for row in range(len(column))}


def test_known_answers_are_remembered_and_others_predicted(
    trained: Any, build_snapshot: Callable[..., Snapshot]
) -> None:
    new = new_rollouts(trained, build_snapshot)
    verdicts = verdicts_of(trained.snapshot, seen(trained))
    context = trained.model.label_context(trained.snapshot, trained.reward)
    predicted = score_rollouts(trained.model, trained.snapshot, new, reward=trained.reward, context=context)
    scores = score_rollouts(
        trained.model, trained.snapshot, new, reward=trained.reward, context=context, verdicts=verdicts
    )
    number = numbers(trained)[0]
    known, seven = question(number), right(number)
    source = by_value(new, scores.source)
    remembered = {(known, seven), (known, "1000"), (known, "")}
    assert {key for key, name in source.items() if name == "remembered"} == remembered
    reward = by_value(new, scores.reward)
    assert (reward[known, seven], reward[known, "1000"], reward[known, ""]) == (1.0, 0.0, 0.0)
    others = scores.source == "predicted"
    assert np.array_equal(scores.probability[others], predicted.probability[others])
    assert set(scores.judged_by[~others]) == {"ground_truth"}
    assert set(scores.judged_by[others]) == {None}


def test_unlabelled_rollouts_of_the_memory_share_the_verdict(trained: Any) -> None:
    """Half of the labels of the labelled queries are removed: their truth is recalled from the other half."""
    reward = trained.reward.copy()
    labelled = np.flatnonzero(np.isfinite(reward))
    reward[labelled[::2]] = np.nan
    verdicts = verdicts_of(trained.snapshot, Visible(seen(trained).queries, reward))
    scores = score_memory(trained.model, trained.snapshot, reward=reward, verdicts=verdicts)
    truth = dict(zip(trained.snapshot.thinkings["id"].to_pylist(), trained.reward, strict=True))
    remembered = scores.source == "remembered"
    assert 30 < remembered.sum() <= len(labelled[::2])
    assert [truth[name] for name in scores.id[remembered]] == scores.reward[remembered].tolist()


def test_a_judge_is_asked_once_an_answer_and_only_where_the_memory_does_not_know(
    trained: Any, build_snapshot: Callable[..., Snapshot]
) -> None:
    asked: list[Question] = []

    def judge(questions: Sequence[Question]) -> list[float | None]:
        asked.extend(questions)
        return [None if one.answer == "" else 0.0 for one in questions]

    text = "How much is 0 and 7?"
    memory = build_snapshot(
        [{"query": text, "value": "7", "reward": 1.0, "gold": "7"}, {"query": "Other?", "value": "1", "gold": "1"}],
        dimension=16,
    )
    rows = [{"query": text, "value": value, "policy": "new"} for value in ("7", "8", "8", "", "9")]
    new = build_snapshot(rows, dimension=16)
    verdicts = verdicts_of(memory, Visible(np.array([name == text for name in memory.queries["text"].to_pylist()]),
                                           np.array(memory.thinkings["reward"].to_pylist(), float)))  # fmt: skip
    context = trained.model.label_context(trained.snapshot, trained.reward)
    scores = score_rollouts(
        trained.model, trained.snapshot, new, reward=trained.reward, context=context, verdicts=verdicts, judge=judge
    )
    assert sorted(one.answer for one in asked) == ["", "8", "9"]
    assert {(one.gold, one.query, one.domain) for one in asked} == {("7", text, "math")}
    judged = by_value(new, scores.judged_by)
    assert judged == {(text, "7"): "ground_truth", (text, "8"): "gold", (text, "9"): "gold", (text, ""): "ground_truth"}


def test_remembered_rewards_are_not_withheld_and_are_written_with_their_judge(
    trained: Any, build_snapshot: Callable[..., Snapshot], tmp_path: Path
) -> None:
    new = new_rollouts(trained, build_snapshot)
    verdicts = verdicts_of(trained.snapshot, seen(trained))
    scores = score_rollouts(trained.model, trained.snapshot, new, reward=trained.reward, verdicts=verdicts)
    kept = abstain(scores, query_of_thinkings(new), 0.5, Mode.WITHHOLD)
    write_scores(tmp_path / "scores.jsonl", new, kept, "m-1")
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert {(line["source"], line["judged_by"], line["model"]) for line in lines} == {
        ("remembered", "ground_truth", None),
        ("abstained", None, "m-1"),
    }
    assert [line["reward"] for line in lines if line["source"] == "remembered"].count(1.0) == 1
