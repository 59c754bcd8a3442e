"""Train a reward model in a process of its own, while the process that owns the memory goes on working.

    owner    prepare    the memory's snapshot and the settings go to a folder
    child    main       trains, and writes the model and a summary to the folder
    owner    finish     the model joins the memory's models

The memory changes in `finish` only, and the model's files appear there at once. Whatever is killed before, the memory
is as it was, and the folder can be deleted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from memstore.errors import MemstoreError, ModelError
from memstore.memory import Memory
from memstore.snapshots.files import load_snapshot
from memstore.snapshots.models import copy_models
from memstore_gnn.data.splits import labelled_queries
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import Visibility
from memstore_gnn.evaluation.evaluate import EvaluationRow
from memstore_gnn.models.checkpoint import save_model
from memstore_gnn.models.device import device_memory
from memstore_gnn.models.reward_model import ModelCard
from memstore_gnn.models.settings import NetworkSettings, TrainSettings
from memstore_gnn.models.stored_model import seen_by
from memstore_gnn.scoring.reliability import estimate_reliabilities, reliability_edges
from memstore_gnn.verbs.train import TrainSummary, record_model, train_visible

SNAPSHOT, JOB, RESULT, RELIABILITIES, MODELS = "snapshot", "job.json", "result.json", "reliabilities.arrow", "models"
NICENESS = 10
"""Scheduling priority of the child: the owner's work goes first."""
_PROGRAM = """
import sys
from memstore.runtime.processes import die_with_parent
die_with_parent(int(sys.argv[1]))
from memstore_gnn.verbs.train_apart import main
sys.exit(main(sys.argv[2:]))
"""
"""The child. Its parent may be killed while it imports this module, which takes seconds."""


def prepare(
    memory: Memory, folder: Path, card: ModelCard | None, *, last_steps: int | None = None, device: str | None = None
) -> list[str]:
    """Write the memory's content and the settings of a training to a new folder; return the command that trains.

    Args:
        card: of the present model; the new one has its settings, and may see what it may see. None if the memory has
            no model: the first one has the default settings, and sees all labels but those of audit queries.
        last_steps, device: as in `memstore_gnn.verbs.train.train_visible`.

    Raises:
        StoreError: the memory cannot be read, or the folder cannot be written.
    """
    memory.write_snapshot(folder / SNAPSHOT)
    shown, settings = (Visibility(), TrainSettings()) if card is None else (card.visibility, card.settings)
    visibility = {**asdict(shown), "audit": sorted(shown.audit), "hidden_runs": sorted(shown.hidden_runs)}
    job = {"visibility": visibility, "settings": asdict(settings), "last_steps": last_steps, "device": device}
    job["first"] = card is None
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
    return [sys.executable, "-c", _PROGRAM, str(os.getpid()), os.fspath(folder)]


def trained_model(folder: Path) -> Path:
    """The folder of the model that the child has trained."""
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return folder / MODELS / str(result["model"])


def finish(memory: Memory, folder: Path) -> TrainSummary:
    """Add the model that the child has trained to the memory's models.

    Raises:
        StoreError: the memory cannot be written.
    """
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    created_at = result.pop("created_at")
    summary = TrainSummary(**{**result, "rows": [EvaluationRow(**row) for row in result["rows"]]})
    with pa.OSFile(os.fspath(folder / RELIABILITIES)) as file:
        reliabilities = pa.ipc.open_file(file).read_all()
    copy_models(folder / MODELS, memory.models_folder, [summary.model])
    record_model(memory, summary, created_at, reliabilities)
    return summary


def train(folder: Path) -> None:
    """Train as `prepare` has asked for; the work of the child.

    Raises:
        ModelError: the labels do not allow a training; for a memory's first model, there must be some.
    """
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    snapshot, shown = load_snapshot(folder / SNAPSHOT), job["visibility"]
    if job["first"] and not labelled_queries(snapshot).any():
        raise ModelError("the memory has no labels yet to train a first reward model on; ask again when it has some")
    visibility = Visibility(shown["budget"], shown["seed"], frozenset(shown["audit"]), frozenset(shown["hidden_runs"]))
    with device_memory(f"training on {snapshot.thinkings.num_rows:,} rollouts"):
        trained = train_visible(
            snapshot,
            visibility,
            last_steps=job["last_steps"],
            settings=_settings(job["settings"]),
            device=job["device"],
        )
    model, summary = trained.model, trained.summary()
    save_model(model, folder / MODELS / summary.model, trained.origin)
    table = reliability_edges(estimate_reliabilities(snapshot, verdicts_of(snapshot, seen_by(model, snapshot))))
    with pa.OSFile(os.fspath(folder / RELIABILITIES), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    result = {**asdict(summary), "created_at": model.card.created_at}
    (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")


def _settings(values: dict[str, Any]) -> TrainSettings:
    return TrainSettings(**{**values, "network": NetworkSettings(**values["network"])})


def main(arguments: Iterable[str]) -> int:
    """Train in a folder; returns the exit code, with one sentence on standard error if it is not 0."""
    os.nice(NICENESS)
    (folder,) = arguments
    try:
        train(Path(folder))
    except MemstoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
