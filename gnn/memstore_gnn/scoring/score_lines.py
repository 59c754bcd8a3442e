"""Write scores as JSON lines, one a rollout, with the columns that identify the rollout in its source file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.scoring.score import REMEMBERED, Scores

COLUMNS = ("policy", "run", "step", "sample_index")
"""Columns that identify a rollout of a query."""


def write_scores(path: Path, snapshot: Snapshot, scores: Scores, model: str) -> None:
    """Write one line a score, ordered by query, policy, run, step and sample index.

    `query_id` is the query's key in the rollout's source, or its id in the memory if the source has no key. A withheld
    reward is null. A remembered reward says who judged the answer and when, and has no model.

    Args:
        snapshot: contains the scored rollouts.
        model: id of the model.
    """
    keys, ids = snapshot.thinkings["query_key"].to_pylist(), snapshot.queries["id"].to_pylist()
    query = query_of_thinkings(snapshot)
    row_of = {rollout: row for row, rollout in enumerate(snapshot.thinkings["id"].to_pylist())}
    columns = {name: snapshot.thinkings[name].to_pylist() for name in COLUMNS}
    lines = []
    for rollout, probability, reward, source, judged_by, judged_at in zip(*scores, strict=True):
        row = row_of[rollout]
        lines.append(
            {
                "query_id": keys[row] if keys[row] is not None else ids[query[row]],
                **{name: column[row] for name, column in columns.items()},
                "probability": float(probability),
                "reward": float(reward) if np.isfinite(reward) else None,
                "source": source,
                "judged_by": judged_by,
                "judged_at": judged_at,
                "model": None if source == REMEMBERED else model,
            }
        )
    lines.sort(key=lambda line: tuple((line[name] is not None, line[name]) for name in ("query_id", *COLUMNS)))
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
