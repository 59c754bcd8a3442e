"""Load the sentence embedder of a memory: all-MiniLM-L6-v2 by default, or any sentence-transformers model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from memstore.embedding.encoder import Execution, SentenceEmbedder
from memstore.embedding.model_files import DEFAULT_MODEL, find_model, weights_digest
from memstore.embedding.precision import PROBES, agrees, choose_device, fast_dtype, fp32_execution, rows_are_independent
from memstore.embedding.protocol import Fingerprint, LongText
from memstore.errors import EmbedderError


def load_embedder(
    model: str = DEFAULT_MODEL, *, device: str | None = None, long_text: LongText = "mean", offline: bool = False
) -> SentenceEmbedder:
    """Load a sentence-transformers model in the fastest dtype that agrees with fp32 on this machine.

    The files are looked up in this order: a local folder, the hub's cache, the copy in the `offline` extra
    (all-MiniLM-L6-v2 only), the hub (see `model_files`). The dtype is fp16 on a GPU, bf16 on a CPU with bf16
    instructions, and fp32 otherwise or when the fast dtype fails its check (see `precision`).

    Args:
        model: a name on the hub, or a folder.
        device: `cpu`, `cuda` or `cuda:1`; None selects a GPU if there is one.
        long_text: treatment of texts longer than the model's window (see `windows`).
        offline: do not access the network.

    Raises:
        EmbedderError: the model cannot be found or loaded, or does not run on the device.

    Example:
        load_embedder().embed(["How many clips?"]).shape == (1, 384)
    """
    folder = find_model(model, offline=offline)
    loaded = _load(folder, model)
    fingerprint = Fingerprint(
        model=Path(model).name,
        revision=weights_digest(folder),
        dimension=int(loaded.get_embedding_dimension()),
        normalised=True,
        window=int(loaded.max_seq_length),
        long_text=long_text,
    )
    where = choose_device(device)
    try:
        return _best_execution(loaded, fingerprint, where)
    except (RuntimeError, AssertionError) as error:
        raise EmbedderError(
            f"the embedder {model} cannot run on {where} ({str(error).splitlines()[0]}); choose another device"
        ) from error


def _best_execution(loaded: Any, fingerprint: Fingerprint, device: str) -> SentenceEmbedder:
    """Select the fastest dtype that agrees with fp32, and fixed rows if the rows are not independent."""
    fast = fast_dtype(device)
    embedder = SentenceEmbedder(copy.deepcopy(loaded), fingerprint, fp32_execution(device))
    if fast != torch.float32:
        candidate = SentenceEmbedder(loaded, fingerprint, Execution(device, fast, fixed_rows=False))
        if agrees(candidate.embed(PROBES), embedder.embed(PROBES)):
            embedder = candidate
    if not rows_are_independent(embedder):
        embedder.execution = embedder.execution._replace(fixed_rows=True)
    return embedder


def _load(folder: Path, model: str) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        with _without_progress_bar():
            loaded = SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True})
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EmbedderError(
            f"cannot load {folder} as the sentence-transformers model {model} ({reason}); choose another model"
        ) from error
    if not hasattr(loaded[0], "auto_model") or not loaded.max_seq_length:
        raise EmbedderError(f"the model {model} is not a transformer with a maximum length; choose another model")
    return loaded


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Disable the progress bar of transformers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
