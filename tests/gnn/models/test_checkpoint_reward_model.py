"""Checkpoints: a saved model loads bit for bit, and a damaged one raises."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from memstore.errors import ModelError, StoreFullError
from memstore_gnn.models.checkpoint import load_model, save_model
from memstore_gnn.models.network import Correction, RewardNetwork
from memstore_gnn.models.reward_model import RewardModel


@pytest.fixture
def model(trained: Any) -> RewardModel:
    """The trained model with two networks. Their weights are random; the memory has one policy, so none was trained."""
    networks = tuple(RewardNetwork(trained.model.card.settings.network).eval() for _ in range(2))
    model: RewardModel = replace(trained.model, correction=Correction(networks, 0.5, {"toy": 0.25}))
    return model


@pytest.fixture
def folder(model: RewardModel, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


def test_model_is_loaded_bit_for_bit(trained: Any, model: RewardModel, folder: Path) -> None:
    loaded = load_model(folder)
    assert loaded.card == trained.model.card
    assert loaded.base.strata == trained.model.base.strata
    again = loaded.predict(trained.snapshot, loaded.label_context(trained.snapshot, trained.reward))
    assert np.array_equal(again, trained.probability())
    assert loaded.correction.trust == model.correction.trust
    assert loaded.correction.counts == {"toy": 0.25}
    for one, other in zip(loaded.correction.networks, model.correction.networks, strict=True):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_checkpoint_is_safetensors_and_json_with_a_card(trained: Any, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    described = json.loads((folder / "model.json").read_text())
    card = described["card"]
    assert card["embedder"] == trained.snapshot.manifest.embedder
    assert card["splitter"] == trained.snapshot.manifest.splitter
    assert card["snapshot"] == trained.snapshot.manifest.id
    assert {"code_version", "torch_version", "settings", "metrics", "queries"} <= set(card)
    assert "share" in described["features"]


def test_checkpoint_keeps_the_names_of_earlier_releases(folder: Path) -> None:
    described = json.loads((folder / "model.json").read_text())
    names = set(load_file(folder / "model.safetensors"))
    assert {"places", "calibration", "card"} <= set(described)
    assert set(described["calibration"]) == {"slope", "shift"}
    assert {"base.order", "skill.weights", "network.1.head.2.weight"} <= names


def test_repr_of_a_model_is_one_line(trained: Any) -> None:
    assert repr(trained.model).startswith(f"RewardModel('{trained.model.card.id}', snapshot=")
    assert "\n" not in repr(trained.model)


def test_saving_again_replaces_the_model(trained: Any, folder: Path) -> None:
    save_model(trained.model, folder)
    assert not load_model(folder).correction.networks


def _flip_a_bit(folder: Path) -> None:
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(weights)


def _describe(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    described = json.loads((folder / "model.json").read_text())
    change(described)
    (folder / "model.json").write_text(json.dumps(described))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda f: (f / "model.json").unlink(), "there is no reward model in"),
    "half a description": (lambda f: (f / "model.json").write_text('{"format": "mem'), "cannot be read as JSON"),
    "another kind of JSON": (lambda f: (f / "model.json").write_text("[1]"), "does not describe a memstore reward"),
    "another program": (lambda f: (f / "model.json").write_text('{"model": "bert"}'), "does not describe"),
    "later format": (lambda f: _describe(f, lambda d: d.update(version=99)), "format version 99"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "is damaged"),
    "a flipped bit": (_flip_a_bit, "are not those that were saved"),
    "a missing key": (lambda f: _describe(f, lambda d: d.pop("calibration")), "is damaged"),
    "another vote model": (lambda f: _describe(f, lambda d: d.update(vote_features=["share"])), "other features"),
    "an unknown setting": (lambda f: _describe(f, lambda d: d["card"].update(colour="red")), "is damaged"),
    "a missing network": (lambda f: _describe(f, lambda d: d.update(networks=9)), "is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_model_raises(folder: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize("name", ["embedder", "splitter"])
def test_memory_of_another_embedder_or_splitter_raises(trained: Any, name: str) -> None:
    other = replace(trained.snapshot, manifest=replace(trained.snapshot.manifest, **{name: "another"}))
    with pytest.raises(ModelError, match=f"{name} 'test' and this one has 'another'"):
        trained.model.label_context(other, trained.reward)


def test_snapshot_without_texts_raises(trained: Any) -> None:
    bare = replace(trained.snapshot, thinkings=trained.snapshot.thinkings.drop_columns(["text"]))
    with pytest.raises(ModelError, match="texts=True"):
        trained.model.label_context(bare, trained.reward)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    """Also if the digest is that of these weights, as after a training that diverged."""
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if tensors[name].dtype.kind == "f" and tensors[name].size)
    tensors[name].flat[0] = value
    save_file(tensors, folder / "model.safetensors")
    digest = hashlib.blake2b((folder / "model.safetensors").read_bytes(), digest_size=16).hexdigest()
    _describe(folder, lambda described: described.update(weights=digest))
    with pytest.raises(ModelError, match=f"{name} of the reward model .* is not finite; train the model again"):
        load_model(folder)


@pytest.mark.parametrize("limit", [0, 1_000, 20_000])
@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_leaves_the_folder_as_it_was(
    trained: Any, model: RewardModel, tmp_path: Path, limit: int, exists: bool
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    if exists:
        save_model(trained.model, models / "model")
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(StoreFullError, match="there is no space for the reward model"):
            save_model(model, models / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in models.rglob("*") if path.is_file()} == before
    save_model(model, models / "model")
    assert str(load_model(models / "model")) == str(model)
