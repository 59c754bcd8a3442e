"""Checkpoints of reward models: weights as safetensors and everything else as JSON, without pickle.

    model.safetensors    base, reliability model, vote model and networks, bit for bit
    origin.safetensors   training data of the model (`memstore_gnn.models.origin`), if recorded
    model.json           card (settings, embedder, splitter, snapshot, metrics, versions), feature names, calibration,
                         and digests of the files above

Loading refuses another format version, a missing tensor, and a file whose digest differs. Names in the files keep the
spelling of the first release (`places`, `skill`).
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
from memstore.runtime.disk_space import space_errors
from memstore.snapshots.atomic_folder import atomic_folder, remove_abandoned
from memstore_gnn.features.author_clusters import AuthorClusterModel
from memstore_gnn.features.reliability import ReliabilityModel
from memstore_gnn.models.base import Base
from memstore_gnn.models.calibration import Calibration
from memstore_gnn.models.design import Scale
from memstore_gnn.models.network import Correction, RewardNetwork
from memstore_gnn.models.origin import Origin, origin_bytes, read_origin
from memstore_gnn.models.reward_model import ModelCard, RewardModel
from memstore_gnn.models.settings import NetworkSettings, TrainSettings
from memstore_gnn.models.vote_model import FEATURES, VoteModel

FORMAT = "memstore-reward-model"
VERSION = 6
WEIGHTS, ORIGIN, DESCRIPTION = "model.safetensors", "origin.safetensors", "model.json"


def save_model(model: RewardModel, folder: Path, origin: Origin | None = None) -> None:
    """Write a model to a folder, replacing the one that is there.

    A new folder appears with all its files. In a folder that exists, the files are replaced one by one once all of them
    are on the disk.

    Raises:
        StoreFullError: the disk is full; the folder is as it was.
    """
    files = _files(model, origin)
    with space_errors(f"there is no space for the reward model {folder}; free some, and train again"):
        if not folder.exists():
            with atomic_folder(folder, "model") as building:
                for name, content in files.items():
                    (building / name).write_bytes(content)
            return
        remove_abandoned(folder)
        partial = {name: folder / f"{name}.partial" for name in files}
        try:
            for name, content in files.items():
                partial[name].write_bytes(content)
            for name, path in partial.items():
                path.replace(folder / name)
        except BaseException:
            for path in partial.values():
                path.unlink(missing_ok=True)
            raise


def _files(model: RewardModel, origin: Origin | None) -> dict[str, bytes]:
    """Content of each file by name, the description last."""
    weights = save_tensors(_tensors(model))
    trained_on = {} if origin is None else {ORIGIN: origin_bytes(origin)}
    described = {
        "format": FORMAT,
        "version": VERSION,
        "weights": _digest(weights),
        "origin": _digest(trained_on[ORIGIN]) if trained_on else None,
        "features": list(model.base.scale.names),
        "near_features": list(model.base.near.names),
        "skill_features": list(model.base.reliability.names),
        "vote_features": list(FEATURES),
        "places": list(model.base.strata),
        "networks": len(model.correction.networks),
        "trust": model.correction.trust,
        "counts": dict(model.correction.counts),
        "calibration": asdict(model.calibration),
        "card": asdict(model.card),
    }
    return {WEIGHTS: weights, **trained_on, DESCRIPTION: (json.dumps(described, indent=2) + "\n").encode()}


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
        return _rebuild(described, _finite(load_tensors(weights), folder), torch.device(device))
    except torch.OutOfMemoryError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the reward model in {folder} is damaged ({error}); train or copy it again") from error


def refusal(folder: Path) -> str | None:
    """Why this version of memstore does not read the model in a folder; None if it does. The weights are not read."""
    try:
        _describe(folder)
    except ModelError as error:
        return str(error)
    return None


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


def _finite(tensors: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The weights, unless a training that diverged or another program left a NaN or an infinity in them."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name} of the reward model in {folder} is not finite; train the model again")
    return tensors


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
    version = described.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        raise ModelError(
            f"the model in {folder} has format version {version} and this memstore reads {VERSION}; "
            + ("update memstore, or train the model again" if newer else "train it again")
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
        "votes.weights": model.vote_model.weights,
    }
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}
    for position, network in enumerate(model.correction.networks):
        for name, value in network.state_dict().items():
            tensors[f"network.{position}.{name}"] = value.detach().cpu().contiguous()
    return tensors


def _rebuild(described: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> RewardModel:
    card = dict(described["card"])
    settings = dict(card["settings"])
    settings["network"] = NetworkSettings(**settings["network"])
    card["settings"] = TrainSettings(**settings)
    networks = []
    for position in range(described["networks"]):
        network, prefix = RewardNetwork(card["settings"].network), f"network.{position}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        network.load_state_dict(own)
        networks.append(network.to(device).eval())
    return RewardModel(
        ModelCard(**card),
        _base(described, tensors),
        Calibration(**described["calibration"]),
        _vote_model(described, tensors),
        # Models of earlier versions have no counts, and read votes by reliability alone.
        Correction(tuple(networks), float(described["trust"]), dict(described.get("counts", {}))),
    )


def _vote_model(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> VoteModel:
    if tuple(described["vote_features"]) != FEATURES:
        raise ValueError("its vote model has other features")
    return VoteModel(tensors["votes.weights"].numpy())


def _base(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Base:
    array = {name: tensor.numpy() for name, tensor in tensors.items()}
    clusters = AuthorClusterModel(*(array["style." + name] for name in ("project", "scores", "gram", "votes")))
    reliability = ReliabilityModel(
        tuple(described["skill_features"]), array["skill.edges"], array["skill.weights"], clusters
    )
    scale = Scale(tuple(described["features"]), array["base.mean"], array["base.deviation"])
    near = Scale(tuple(described["near_features"]), array["near.mean"], array["near.deviation"])
    return Base(reliability, scale, near, tuple(described["places"]), array["base.weights"], array["base.order"])
