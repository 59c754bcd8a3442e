"""The embedder on a GPU, on a stand-in for the device: fp16, rows of a fixed number, the vectors of the CPU."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from memstore.embedding import encoder
from memstore.embedding.encoder import SentenceEmbedder
from memstore.embedding.minilm import load_embedder
from memstore.errors import EmbedderError
from memstore.testing.doubles.device import second_device

TEXTS = ["How many clips?", "so the sum of 48 and 24 is 72 " * 12, "half as many"]


def test_vectors_equal_those_of_the_cpu_up_to_the_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = load_embedder(device="cpu").embed(TEXTS)
    monkeypatch.setattr(encoder, "GPU_TOKENS", 256)
    # The stand-in exists in this thread only.
    monkeypatch.setattr(encoder, "single_core_threads", lambda count: nullcontext(SimpleNamespace(map=map)))
    with second_device() as device:
        embedder = load_embedder(device=device)
        assert embedder.execution.dtype == torch.float16
        assert embedder.execution.fixed_rows
        found = embedder.embed(TEXTS)
    assert ((found * wanted).sum(axis=1) > 0.999).all()
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


def test_a_full_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = load_embedder(device="cpu")

    def full(self: SentenceEmbedder, *arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SentenceEmbedder, "_vectors", full)
    with pytest.raises(EmbedderError, match="ran out of memory while embedding; free some of it, or pass --device cpu"):
        embedder.embed(TEXTS)
