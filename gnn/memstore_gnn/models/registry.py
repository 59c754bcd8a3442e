"""The reward models that a memory lists: RewardModel nodes, each with the folder that the model lies in.

The one in use is the promoted one, which the graph's settings name, else the newest. Files lie on the machine that
trained them, under the memory's folder there; the graph may be a server that others read too, and a memory that was
restored has nodes of models whose files it does not have. Only the list: nothing here loads a model, or torch.
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
from memstore_schema.columns import EdgeType, NodeLabel

PROMOTED = "promoted_model"
"""The setting of the graph that names the promoted model."""


@dataclass(frozen=True)
class ModelEntry:
    """A reward model of a memory."""

    model: str
    version: int
    snapshot: str
    created_at: str
    metrics: dict[str, Any]
    scored: int
    """Rollouts of the memory that it has scored."""
    path: str
    """Its folder, relative to the memory's."""
    in_use: bool
    """What `score` takes unless told otherwise."""
    promoted: bool
    here: bool
    """Its files are on this machine."""

    def as_json(self) -> dict[str, Any]:
        """The entry as the command prints it."""
        return asdict(self)


def list_models(memory: Memory) -> list[ModelEntry]:
    """The memory's reward models, the newest first."""
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
            )
        )
    return sorted(entries, key=lambda entry: -entry.version)


def model_in_use(memory: Memory, nodes: Sequence[Mapping[str, Any]]) -> str | None:
    """The id of the model that `score` takes: the promoted one, else the newest of `nodes`; None without any."""
    known = {str(node["id"]): int(node["version"]) for node in nodes}
    promoted = promoted_model(memory)
    if promoted in known:
        return promoted
    return max(known, key=lambda name: (known[name], name)) if known else None


def promoted_model(memory: Memory) -> str | None:
    """The id of the model that was promoted; None if none was."""
    return memory.graph.read_meta().get(PROMOTED)


def record_promotion(memory: Memory, model: str) -> None:
    """Make this the model in use."""
    memory.graph.write_meta({PROMOTED: model})


def model_folder(memory: Memory, model: str | None = None) -> Path:
    """The folder of one of the memory's models, the one in use if none is named.

    Raises:
        ModelError: there is none, or none of this name, or its files are elsewhere.
    """
    nodes = sorted(model_nodes(memory), key=lambda node: node["version"])
    chosen = model_in_use(memory, nodes) if model is None else model
    if chosen is None:
        raise ModelError(
            f"the memory {memory.location} has no reward model yet; train one with: "
            f"memstore train --memory {memory.location}"
        )
    paths = {node["id"]: node["path"] for node in nodes}
    if chosen not in paths:
        raise ModelError(f"the memory {memory.location} has no reward model {chosen!r}; it has {', '.join(paths)}")
    folder = memory.folder / str(paths[chosen])
    if not folder.is_dir():
        raise ModelError(
            f"the memory {memory.location} lists the reward model {chosen}, and its files are not here; copy its "
            f"folder from where it was trained to {folder}, or train one here with `memstore train`"
        )
    return folder


def model_node(
    memory: Memory, model: str, snapshot: str, created_at: str, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Properties of a new model's RewardModel node; its version is the next one."""
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
    """The properties of all RewardModel nodes, ordered by id."""
    columns = ["id", "version", "snapshot", "metrics", "path", "created_at"]
    nodes: list[dict[str, Any]] = memory.graph.nodes(NodeLabel.REWARD_MODEL, columns).to_pylist()
    return nodes
