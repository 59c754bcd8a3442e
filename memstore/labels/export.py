"""Export the verdicts on answers, as JSON lines or as tasks of Label Studio; `memstore label --file` reads both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from memstore.errors import InputError
from memstore.graph.verdicts import PERSON, RIGHT
from memstore.labels.audit import audit_positions
from memstore.labels.journal import Journal
from memstore.labels.label_studio import annotation, choice_names, task
from memstore.locations.stores import Stores
from memstore.types import AUDIT_SPLIT
from memstore_schema.columns import EdgeType, NodeLabel

LABEL_STUDIO_SUFFIX = ".json"
"""Files of this suffix are written for Label Studio, others as JSON lines."""


class Exported(NamedTuple):
    """Result of `export_labels`."""

    queries: int
    answers: int
    left_out: int
    """Labelled rollouts that are not in the file: without a readable answer, or with labels that contradict."""


def export_labels(stores: Stores, path: Path) -> Exported:
    """Write the verdicts of a memory to a file, one row an answer or one task a query.

    Rows have `query_id`, `query`, `answer_id`, `answer`, `reward`, `source`, and `by` and `at` of the last batch in the
    journal that labelled a rollout with the answer. `split` is `audit` for audit queries, which reading the file marks.
    `implied` says that the answer is wrong only because another one is right. Reading the file leaves such rows out:
    the right answer implies them again. Tasks do not choose these answers.

    Raises:
        InputError: the file cannot be written, or the memory has no verdict.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} cannot be written; name a file in an existing folder")
    rows, left_out = _rows(stores)
    if not rows:
        raise InputError("the memory has no verdict to export; label some answers with `memstore label`")
    if path.suffix == LABEL_STUDIO_SUFFIX:
        content = json.dumps(list(_tasks(rows)), ensure_ascii=False, indent=1) + "\n"
    else:
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(content, encoding="utf-8")
    return Exported(len({row["query_id"] for row in rows}), len(rows), left_out)


def _rows(stores: Stores) -> tuple[list[dict[str, Any]], int]:
    graph = stores.graph
    queries = graph.nodes(NodeLabel.QUERY, ["id", "text"])
    answers = graph.nodes(NodeLabel.ANSWER, ["id", "text", "verdict", "verdict_source"]).to_pylist()
    thinkings = graph.nodes(NodeLabel.THINKING, ["id", "reward"])
    generates = graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    leads = graph.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
    query_of = dict(zip(generates.target.tolist(), generates.source.tolist(), strict=True))
    audit = audit_positions(graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, ["split"]))
    ids, texts = queries["id"].to_pylist(), queries["text"].to_pylist()
    names, rewards = thinkings["id"].to_pylist(), thinkings["reward"].to_pylist()
    journal = Journal(stores.location.folder)
    labelled_by, implied = _labelled_by(journal), journal.implied()
    found: dict[int, dict[str, Any]] = {}
    left_out = sum(reward is not None for reward in rewards)
    for rollout, answer in zip(leads.source.tolist(), leads.target.tolist(), strict=True):
        judged, query = answers[answer], query_of[rollout]
        if judged["verdict"] is None:
            continue
        left_out -= rewards[rollout] is not None
        row = found.setdefault(
            answer,
            {
                "query_id": ids[query],
                "query": texts[query],
                "answer_id": judged["id"],
                "answer": judged["text"],
                "reward": judged["verdict"],
                "source": judged["verdict_source"],
                "split": AUDIT_SPLIT if query in audit else None,
                "implied": judged["verdict_source"] == PERSON,
                "by": None,
                "at": None,
            },
        )
        row["implied"] &= rewards[rollout] is None or names[rollout] in implied
        by, at = labelled_by.get(names[rollout], (None, None))
        if at is not None and (row["at"] is None or at > row["at"]):
            row |= {"by": by, "at": at}
    return sorted(found.values(), key=lambda row: (row["query_id"], row["answer_id"])), left_out


def _labelled_by(journal: Journal) -> dict[str, tuple[str | None, str]]:
    """Who labelled a rollout last, and when."""
    return {change.rollout: (batch.by, batch.at) for batch in journal.batches() for change in batch.changes}


def _tasks(rows: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    by_query: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_query.setdefault(row["query_id"], []).append(row)
    for query, judged in by_query.items():
        answers = {row["answer_id"]: row["answer"] for row in judged}
        rewards = {row["answer_id"]: row["reward"] for row in judged}
        by = next((row["by"] for row in judged if row["by"] is not None), None)
        partial = {name: reward for name, reward in rewards.items() if reward not in (0.0, 1.0)}
        made = task(query, judged[0]["query"], answers, split=judged[0]["split"], rewards=partial)
        names = choice_names(answers)
        right = [names[name] for name, reward in rewards.items() if reward > RIGHT]
        wrong = [names[row["answer_id"]] for row in judged if row["reward"] <= RIGHT and not row["implied"]]
        yield made | {"annotations": [annotation(right, wrong, by)]}
