"""The embedder of a memory: all-MiniLM-L6-v2, or another sentence-transformers model, as this machine runs it best."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from memstore.embedding.encoder import Execution, SentenceEmbedder
from memstore.embedding.model_files import DEFAULT_MODEL, find_model, weights_digest
from memstore.embedding.precision import PROBES, agrees, choose_device, exact_execution, fast_dtype, rows_are_free
from memstore.embedding.protocol import Fingerprint, LongText
from memstore.errors import EmbedderError


def load_embedder(
    model: str = DEFAULT_MODEL, *, device: str | None = None, long_text: LongText = "mean", offline: bool = False
) -> SentenceEmbedder:
    """Load a sentence-transformers model.

    It comes from a folder, the hub's cache, the copy in the `offline` extra (all-MiniLM-L6-v2 only), or the hub, in
    this order; see `model_files`. On a GPU it runs in fp16, on a processor that multiplies bf16 in bf16, elsewhere in
    fp32; a fast precision that does not agree with fp32 is not used.

    Args:
        model: a name on the hub, or a folder.
        device: `cpu`, `cuda`, `cuda:1`; absent: a GPU when there is one.
        long_text: what becomes of a text longer than the model's window, see `windows`.
        offline: do not ask the network.

    Raises:
        EmbedderError: the model cannot be had, is not a sentence-transformers model, or does not run on the device.
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
        return _settle(loaded, fingerprint, where)
    except (RuntimeError, AssertionError) as error:
        raise EmbedderError(
            f"the embedder {model} does not run on {where} ({str(error).splitlines()[0]}); choose another device"
        ) from error


def _settle(loaded: Any, fingerprint: Fingerprint, device: str) -> SentenceEmbedder:
    """The model in the best precision that agrees with fp32, with rows as free as they may be."""
    fast = fast_dtype(device)
    embedder = SentenceEmbedder(copy.deepcopy(loaded), fingerprint, exact_execution(device))
    if fast != torch.float32:
        candidate = SentenceEmbedder(loaded, fingerprint, Execution(device, fast, fixed_rows=False))
        if agrees(candidate.embed(PROBES), embedder.embed(PROBES)):
            embedder = candidate
    if not rows_are_free(embedder):
        embedder.execution = embedder.execution._replace(fixed_rows=True)
    return embedder


def _load(folder: Path, model: str) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        with _quietly():
            loaded = SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True})
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EmbedderError(
            f"{folder} does not load as the sentence-transformers model {model} ({reason}); choose another model"
        ) from error
    if not hasattr(loaded[0], "auto_model") or not loaded.max_seq_length:
        raise EmbedderError(f"the model {model} is no transformer with a window; choose another model")
    return loaded


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' own progress bar."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
