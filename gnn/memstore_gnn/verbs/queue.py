"""Choose which queries of an open memory to label next, and mark the audit queries among them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memstore.errors import InputError
from memstore.labels.audit import mark_audit
from memstore.labels.export import LABEL_STUDIO_SUFFIX
from memstore.labels.label_studio import task
from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.snapshots.take import take_outline, with_query_vectors
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.models.device import device_memory
from memstore_gnn.models.registry import model_nodes
from memstore_gnn.models.stored_model import open_model, seen_by
from memstore_gnn.queue.choose import AUDIT_SHARE, Criterion, choose_queries
from memstore_gnn.queue.items import QueueItem
from memstore_gnn.scoring.score import score_memory

VOTES = "votes"
"""Source of the probabilities without a reward model."""


@dataclass(frozen=True)
class Queue:
    """Result of `queue_memory`."""

    items: list[QueueItem]
    """In the order in which to label them."""
    criterion: Criterion
    p_from: str
    """Id of the reward model that the probabilities are from, or `votes`."""
    marked: int
    """Queries that were marked as audit queries by this call."""
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The queue as the JSON that `memstore queue` prints."""
        return {**vars(self), "seconds": round(self.seconds, 3), "items": [item.as_json() for item in self.items]}

    def write(self, path: Path) -> None:
        """Write the queue: tasks of Label Studio if the name ends in `.json`, else JSON lines, one a query.

        Raises:
            InputError: the file cannot be written.
        """
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"{path} cannot be written; name a file in an existing folder")
        rows = [item.as_json() | {"p_from": self.p_from} for item in self.items]
        if path.suffix == LABEL_STUDIO_SUFFIX:
            text = json.dumps([_task(row) for row in rows], ensure_ascii=False, indent=1) + "\n"
        else:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")


def queue_memory(
    memory: Memory,
    limit: int = 20,
    *,
    criterion: Criterion = "training",
    audit_share: float = AUDIT_SHARE,
    seed: int = 0,
    model: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Queue:
    """Choose which queries to label next; see `memstore_gnn.queue.choose`.

    The audit queries of the queue are marked in the memory. The same call gives the same queue until labels or rollouts
    are added. For `training`, probabilities are from votes; for `pages`, from a reward model if the memory has one.

    Args:
        limit: length of the queue.
        criterion: `training` or `pages`.
        audit_share: share of the queue that is for audit, 0..1.
        seed: of the draw of audit queries.
        model: id of one of the memory's models, for `pages`; None uses the model in use.

    Raises:
        InputError: the memory has no rollouts, or no query that can be labelled.
        ReadOnlyError: there are audit queries to mark, and the memory cannot be written to.
        ModelError: there is no such model, or it does not fit the memory.
    """
    started, progress = time.perf_counter(), progress or Silent()
    if criterion == "training" and model is not None:
        raise InputError("queries for training are chosen by votes; remove the model, or choose them for pages")
    if audit_share:
        memory.stores.check_writable()
    progress.stage("read the memory")
    p_from, probability = VOTES, None
    if criterion == "pages" and (model is not None or model_nodes(memory)):
        snapshot, chosen = memory.snapshot(), open_model(memory, model, device)
        seen = seen_by(chosen, snapshot)
        progress.stage("score")
        with device_memory(f"scoring {snapshot.thinkings.num_rows:,} rollouts"):
            every = np.ones(snapshot.thinkings.num_rows, np.bool_)
            verdicts = verdicts_of(snapshot, seen)
            scores = score_memory(chosen, snapshot, every, reward=seen.reward, verdicts=verdicts)
        p_from, probability = chosen.card.id, scores.probability
    else:
        snapshot = with_query_vectors(memory.stores, take_outline(memory.stores))
    progress.stage("choose queries")
    items = choose_queries(
        snapshot, limit, criterion=criterion, probability=probability, audit_share=audit_share, seed=seed
    )
    audit = [item.query_id for item in items if item.purpose == "audit"]
    marked = mark_audit(memory.stores, audit) if audit else 0
    return Queue(items, criterion, p_from, marked, time.perf_counter() - started)


def _task(row: dict[str, Any]) -> dict[str, Any]:
    answers = {answer["answer_id"]: answer["answer"] for answer in row["answers"]}
    more = {name: row[name] for name in ("dataset", "key", "domain", "purpose", "reason", "split")}
    return task(row["query_id"], row["query"], answers, **more)
