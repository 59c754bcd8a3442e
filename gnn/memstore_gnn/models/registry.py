"""Registry of a memory's reward models: RewardModel nodes of the graph, each with the folder of the model's files.

The model in use is the promoted one, named in the graph's settings, or otherwise the newest. The files are stored under
the memory's folder on the machine that trained the model. Other machines can read the same graph, and a restored memory
can have nodes of models without their files. This module loads neither a model nor torch.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memstore.errors import ModelError
from memstore.memory import Memory
from memstore_gnn.models.checkpoint import refusal
from memstore_schema.columns import EdgeType, NodeLabel

PROMOTED = "promoted_model"
"""Key of the graph's setting that names the promoted model."""


@dataclass(frozen=True)
class ModelEntry:
    """A reward model in the registry of a memory."""

    model: str
    """Its id."""
    version: int
    """1 for the first model of the memory, counting up."""
    snapshot: str
    """Id of the snapshot it was trained on."""
    created_at: str
    """ISO 8601, UTC."""
    metrics: dict[str, Any]
    scored: int
    """Number of the memory's rollouts that it has scored."""
    path: str
    """Its folder, relative to the memory's folder."""
    in_use: bool
    """Whether `score` uses it by default."""
    promoted: bool
    """Whether it was promoted."""
    here: bool
    """Whether its files are on this machine."""
    refused: str | None
    """Why this version of memstore does not read the files; None if it does, or if they are not here."""

    def as_json(self) -> dict[str, Any]:
        """The entry as the JSON that `memstore models` prints."""
        return asdict(self)


def list_models(memory: Memory) -> list[ModelEntry]:
    """List the memory's reward models, newest first."""
    edges = memory.graph.edges(EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL)
    nodes = model_nodes(memory)
    used, promoted = model_in_use(memory, nodes), promoted_model(memory)
    entries = []
    for position, node in enumerate(nodes):
        rollouts = edges.source[edges.target == position]
        entries.append(
            ModelEntry(
                model=node["id"],
                version=node["version"],
                snapshot=node["snapshot"],
                created_at=node["created_at"].isoformat(timespec="seconds"),
                metrics=json.loads(node["metrics"]),
                scored=len(np.unique(rollouts)),
                path=node["path"],
                in_use=node["id"] == used,
                promoted=node["id"] == promoted,
                here=(memory.folder / node["path"]).is_dir(),
                refused=refusal(memory.folder / node["path"]) if (memory.folder / node["path"]).is_dir() else None,
            )
        )
    return sorted(entries, key=lambda entry: -entry.version)


def model_in_use(memory: Memory, nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """Id of the model that `score` uses: the promoted one, or the newest of `nodes`; None if there is none."""
    known = {str(node["id"]): int(node["version"]) for node in nodes}
    promoted = promoted_model(memory)
    if promoted in known:
        return promoted
    return max(known, key=lambda name: (known[name], name)) if known else None


def promoted_model(memory: Memory) -> str | None:
    """Id of the promoted model; None if no model was promoted."""
    return memory.graph.read_meta().get(PROMOTED)


def record_promotion(memory: Memory, model: str) -> None:
    """Record a model as the promoted one."""
    memory.graph.write_meta({PROMOTED: model})


def model_folder(memory: Memory, model: str | None = None) -> Path:
    """Folder of one of the memory's models, named by its id or the beginning of it, by default the one in use.

    Raises:
        ModelError: the memory has no model, no model of this name or several, or the model's files are not on this
            machine.
    """
    nodes = sorted(model_nodes(memory), key=lambda node: node["version"])
    chosen = model_in_use(memory, nodes) if model is None else model
    if chosen is None:
        raise ModelError(_no_model(memory))
    paths = {node["id"]: node["path"] for node in nodes}
    if chosen not in paths:
        found = [name for name in paths if chosen and name.startswith(chosen)]
        if len(found) > 1:
            raise ModelError(
                f"{len(found)} reward models begin with {chosen!r} ({', '.join(found)}); pass more of the id"
            )
        if not found:
            raise ModelError(f"the memory {memory.location} has no reward model {chosen!r}; it has {', '.join(paths)}")
        chosen = found[0]
    folder = memory.folder / str(paths[chosen])
    if not folder.is_dir():
        raise ModelError(
            f"the memory {memory.location} lists the reward model {chosen}, but its files are not here; copy its "
            f"folder from the machine that trained it to {folder}, or train a model here with `memstore train`"
        )
    return folder


def _no_model(memory: Memory) -> str:
    train = f"memstore train --memory {memory.location} (without labels, it is the prior that memstore ships)"
    if memory.graph.nodes(NodeLabel.QUERY, ["id"]).num_rows:
        return f"the memory {memory.location} has no reward model yet; train one with: {train}"
    return (
        f"the memory {memory.location} is empty and has no reward model; add rollouts, with `memstore ingest` or with "
        f"`memstore serve --mode budget`, and train one with: {train}"
    )


def model_node(
    memory: Memory, model: str, snapshot: str, created_at: str, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Properties of the RewardModel node of a new model, with the next version number."""
    versions = [node["version"] for node in model_nodes(memory)]
    return {
        "id": model,
        "version": max(versions, default=0) + 1,
        "snapshot": snapshot,
        "metrics": json.dumps(metrics, sort_keys=True),
        "path": f"{memory.models_folder.name}/{model}",
        "created_at": dt.datetime.fromisoformat(created_at),
    }


def model_nodes(memory: Memory) -> list[dict[str, Any]]:
    """Properties of all RewardModel nodes, ordered by id."""
    columns = ["id", "version", "snapshot", "metrics", "path", "created_at"]
    nodes: list[dict[str, Any]] = memory.graph.nodes(NodeLabel.REWARD_MODEL, columns).to_pylist()
    return nodes
