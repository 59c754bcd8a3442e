"""The embedder on a GPU: one sentence when its memory is full, and on a real one the vectors of the CPU."""

from __future__ import annotations

import pytest
import torch

from memstore.embedding.encoder import SentenceEmbedder
from memstore.embedding.minilm import load_embedder
from memstore.errors import EmbedderError

TEXTS = ["How many clips?", "so the sum of 48 and 24 is 72 " * 12, "half as many"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_vectors_equal_those_of_the_cpu_up_to_the_dtype() -> None:
    embedder = load_embedder(device="cuda")
    assert embedder.execution.dtype == torch.float16
    assert embedder.execution.fixed_rows
    assert ((embedder.embed(TEXTS) * load_embedder(device="cpu").embed(TEXTS)).sum(axis=1) > 0.999).all()


def test_a_full_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = load_embedder(device="cpu")

    def full(self: SentenceEmbedder, *arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SentenceEmbedder, "_vectors", full)
    with pytest.raises(EmbedderError, match="ran out of memory while embedding; free some of it, or pass --device cpu"):
        embedder.embed(TEXTS)
