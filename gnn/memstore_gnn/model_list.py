"""The reward models that a memory lists: RewardModel nodes, each with the folder that the model lies in.

Only the list: nothing here loads a model, or torch.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memstore.errors import ModelError
from memstore.memory import Memory
from memstore_schema.columns import EdgeType, NodeLabel


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

    def as_json(self) -> dict[str, Any]:
        """The entry as the command prints it."""
        return asdict(self)


def list_models(memory: Memory) -> list[ModelEntry]:
    """The memory's reward models, the newest first."""
    edges = memory.graph.edges(EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL)
    nodes = model_nodes(memory)
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
            )
        )
    return sorted(entries, key=lambda entry: -entry.version)


def model_folder(memory: Memory, model: str | None = None) -> Path:
    """The folder of one of the memory's models, the newest if none is named.

    Raises:
        ModelError: there is none, or none of this name.
    """
    nodes = sorted(model_nodes(memory), key=lambda node: node["version"])
    if not nodes:
        raise ModelError(
            f"the memory {memory.location} has no reward model yet; train one with: "
            f"memstore train --memory {memory.location}"
        )
    paths = {node["id"]: node["path"] for node in nodes}
    if model is not None and model not in paths:
        raise ModelError(f"the memory {memory.location} has no reward model {model!r}; it has {', '.join(paths)}")
    return memory.folder / str(nodes[-1]["path"] if model is None else paths[model])


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
