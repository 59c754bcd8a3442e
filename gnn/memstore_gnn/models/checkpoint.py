"""Checkpoints of reward models: weights as safetensors and everything else as JSON, without pickle.

    model.safetensors    base, reliability model, projection and networks, bit for bit
    origin.safetensors   training data of the model (`memstore_gnn.models.origin`), if recorded
    model.json           card (settings, embedder, splitter, snapshot, metrics, versions), feature names, calibration,
                         and digests of the files above; written last, so that a partly written folder is no model

Loading refuses another format version, a missing tensor, and a file whose digest differs. Names in the files keep the
spelling of the first release (`places`, `trust`, `recall_thinking`), so that old checkpoints stay readable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from memstore.errors import ModelError
from memstore_gnn.features.author_clusters import AuthorClusterModel
from memstore_gnn.features.reliability import ReliabilityModel
from memstore_gnn.models.base import Base
from memstore_gnn.models.calibration import Calibration
from memstore_gnn.models.design import Scale
from memstore_gnn.models.inputs import Projection
from memstore_gnn.models.network import RewardNetwork
from memstore_gnn.models.origin import Origin, origin_bytes, read_origin
from memstore_gnn.models.reward_model import ModelCard, RewardModel
from memstore_gnn.models.settings import NetworkSettings, TrainSettings

FORMAT = "memstore-reward-model"
VERSION = 4
WEIGHTS, ORIGIN, DESCRIPTION = "model.safetensors", "origin.safetensors", "model.json"
STORED_PARAMETERS = {
    "thinking_attention.": "recall_thinking.",
    "query_attention.": "recall_query.",
    ".inverse_temperature": ".sharpness",
}
"""Parts of a network's parameter names, and how the files spell them."""


def save_model(model: RewardModel, folder: Path, origin: Origin | None = None) -> None:
    """Write a model to a folder, replacing the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save_tensors(_tensors(model))
    trained_on = None if origin is None else origin_bytes(origin)
    described = {
        "format": FORMAT,
        "version": VERSION,
        "weights": _digest(weights),
        "origin": None if trained_on is None else _digest(trained_on),
        "features": list(model.base.scale.names),
        "near_features": list(model.base.near.names),
        "skill_features": list(model.base.reliability.names),
        "places": list(model.base.strata),
        "networks": len(model.networks),
        "widths": list(model.networks[0].widths) if model.networks else [],
        "calibration": _stored_calibration(model.calibration),
        "card": asdict(model.card),
    }
    (folder / DESCRIPTION).unlink(missing_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    if trained_on is not None:
        (folder / ORIGIN).write_bytes(trained_on)
    partial = folder / (DESCRIPTION + ".partial")
    partial.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / DESCRIPTION)


def load_model(folder: Path, device: str | torch.device = "cpu") -> RewardModel:
    """Load a model from a folder.

    Raises:
        ModelError: the folder has no model, or its model is damaged or has another format version.
    """
    described = _describe(folder)
    try:
        weights = (folder / WEIGHTS).read_bytes()
        if _digest(weights) != described["weights"]:
            raise ModelError(f"the weights in {folder} are not those that were saved; train or copy the model again")
        return _rebuild(described, load_tensors(weights), torch.device(device))
    except torch.OutOfMemoryError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the reward model in {folder} is damaged ({error}); train or copy it again") from error


def load_origin(folder: Path) -> Origin | None:
    """Load the training data of the model in a folder; None if it was not recorded.

    Raises:
        ModelError: the folder has no model, or its model is damaged.
    """
    recorded = _describe(folder).get("origin")
    if recorded is None:
        return None
    try:
        content = (folder / ORIGIN).read_bytes()
    except OSError as error:
        raise ModelError(f"the reward model in {folder} is damaged ({error}); train or copy it again") from error
    if _digest(content) != recorded:
        raise ModelError(f"{folder / ORIGIN} differs from the file that was saved; train or copy the model again")
    return read_origin(content)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _describe(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"there is no reward model in {folder}; train one with `memstore train`") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}); train or copy the model again") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ModelError(f"{path} does not describe a memstore reward model; name the folder of a model")
    if described.get("version") != VERSION:
        raise ModelError(
            f"the model in {folder} has format version {described.get('version')} and this memstore reads {VERSION}; "
            "train it again"
        )
    return described


def _tensors(model: RewardModel) -> dict[str, Tensor]:
    arrays = {
        "base.weights": model.base.weights,
        "base.order": model.base.feature_weight,
        "base.mean": model.base.scale.mean,
        "base.deviation": model.base.scale.deviation,
        "near.mean": model.base.near.mean,
        "near.deviation": model.base.near.deviation,
        "skill.edges": model.base.reliability.edges,
        "skill.weights": model.base.reliability.weights,
        "style.project": model.base.reliability.clusters.project,
        "style.scores": model.base.reliability.clusters.scores,
        "style.gram": model.base.reliability.clusters.gram,
        "style.votes": model.base.reliability.clusters.votes,
        "projection.mean": model.projection.mean,
        "projection.basis": model.projection.basis,
    }
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    for position, network in enumerate(model.networks):
        for name, value in network.state_dict().items():
            tensors[f"network.{position}.{_stored_name(name)}"] = value.detach().cpu().contiguous()
    return tensors


def _rebuild(described: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> RewardModel:
    card = dict(described["card"])
    settings = dict(card["settings"])
    settings["network"] = NetworkSettings(**settings["network"])
    card["settings"] = TrainSettings(**settings)
    projection = Projection(tensors["projection.mean"].numpy(), tensors["projection.basis"].numpy())
    networks = []
    for position in range(described["networks"]):
        features, near_labels, projected = described["widths"]
        network = RewardNetwork(features, near_labels, projected, card["settings"].network)
        prefix = f"network.{position}."
        state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        names = {_stored_name(name): name for name in network.state_dict()}
        network.load_state_dict({names.get(stored, stored): value for stored, value in state.items()})
        networks.append(network.to(device).eval())
    calibration = _read_calibration(described["calibration"])
    return RewardModel(ModelCard(**card), _base(described, tensors), projection, tuple(networks), calibration, device)


def _stored_name(parameter: str) -> str:
    """Name of a network's parameter in the files."""
    for name, stored in STORED_PARAMETERS.items():
        parameter = parameter.replace(name, stored)
    return parameter


def _stored_calibration(calibration: Calibration) -> dict[str, float]:
    return {"slope": calibration.slope, "trust": calibration.mixing_weight, "shift": calibration.shift}


def _read_calibration(stored: Mapping[str, float]) -> Calibration:
    return Calibration(slope=stored["slope"], mixing_weight=stored["trust"], shift=stored["shift"])


def _base(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Base:
    array = {name: tensor.numpy() for name, tensor in tensors.items()}
    clusters = AuthorClusterModel(*(array["style." + name] for name in ("project", "scores", "gram", "votes")))
    reliability = ReliabilityModel(
        tuple(described["skill_features"]), array["skill.edges"], array["skill.weights"], clusters
    )
    scale = Scale(tuple(described["features"]), array["base.mean"], array["base.deviation"])
    near = Scale(tuple(described["near_features"]), array["near.mean"], array["near.deviation"])
    return Base(reliability, scale, near, tuple(described["places"]), array["base.weights"], array["base.order"])
