"""The real model: vectors are batch-invariant, bit for bit, and agree with sentence-transformers in fp32."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.embedding import encoder, precision, workers
from memstore.embedding.encoder import SentenceEmbedder
from memstore.embedding.minilm import load_embedder
from memstore.embedding.model_files import find_model
from memstore.embedding.windows import MAX_WINDOWS, Batch, batches
from memstore.errors import EmbedderError, InputError

SENTENCE = "so the sum of 48 clips and 24 more is 72 since each friend in May bought half as many"
WORDS = SENTENCE.split()


def text(words: int, seed: int) -> str:
    chosen = np.random.default_rng(seed).choice(WORDS, words)
    return " ".join(chosen)


TEXTS = [text(words, words) for words in (1, 2, 5, 9, 13, 14, 15, 29, 30, 31, 45, 61, 62, 63, 90, 126, 127, 200)]
LONG = text(700, 7)


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return load_embedder(device="cpu")


@pytest.fixture(scope="module")
def expected(embedder: SentenceEmbedder) -> np.ndarray:
    """Vectors of TEXTS and LONG, each embedded alone."""
    return np.concatenate([embedder.embed([each]) for each in [*TEXTS, LONG]])


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_a_text_has_the_same_bits_in_any_batch(
    embedder: SentenceEmbedder, expected: np.ndarray, data: st.DataObject
) -> None:
    order = data.draw(st.lists(st.sampled_from(range(len(expected))), min_size=1, max_size=30))
    others = data.draw(st.lists(st.integers(1, 250), max_size=20))
    texts = [[*TEXTS, LONG][position] for position in order] + [text(n, n + 1000) for n in others]
    mixed = data.draw(st.permutations(range(len(texts))))
    vectors = embedder.embed([texts[position] for position in mixed])
    for row, position in enumerate(mixed):
        if position < len(order):
            assert np.array_equal(vectors[row], expected[order[position]])


def test_full_batches_and_batches_of_one_agree(embedder: SentenceEmbedder, expected: np.ndarray) -> None:
    many = [text(words, seed) for words in (14, 30, 62) for seed in range(100, 180)]
    assert np.array_equal(embedder.embed(TEXTS + many)[: len(TEXTS)], expected[: len(TEXTS)])


def test_fixed_rows_are_batch_invariant(embedder: SentenceEmbedder) -> None:
    before = embedder.execution
    embedder.execution = before._replace(fixed_rows=True)
    try:
        alone = np.concatenate([embedder.embed([each]) for each in TEXTS])
        assert np.array_equal(
            embedder.embed([*TEXTS[::-1], LONG]), np.concatenate([alone[::-1], embedder.embed([LONG])])
        )
    finally:
        embedder.execution = before


def test_the_number_of_threads_does_not_matter(
    embedder: SentenceEmbedder, expected: np.ndarray, tmp_path: Path
) -> None:
    code = (
        "import sys, json, numpy as np, torch; torch.set_num_threads(int(sys.argv[2]))\n"
        "from memstore.embedding.minilm import load_embedder\n"
        "np.save(sys.argv[3], load_embedder(device='cpu').embed(json.load(open(sys.argv[1]))))\n"
    )
    (tmp_path / "texts.json").write_text(json.dumps([*TEXTS, LONG]))
    threads = 2 if torch.get_num_threads() == 1 else 1
    arguments = [str(tmp_path / "texts.json"), str(threads), str(tmp_path / "vectors.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env={**_environment(), "GOMP_SPINCOUNT": "0"})
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), expected)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}


@pytest.fixture(scope="module")
def reference() -> object:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(find_model("all-MiniLM-L6-v2")), device="cpu")


def test_it_agrees_with_sentence_transformers_in_fp32(
    expected: np.ndarray, reference: object, embedder: SentenceEmbedder
) -> None:
    exact = reference.encode(TEXTS, normalize_embeddings=True)  # type: ignore[attr-defined]
    assert (exact * expected[: len(TEXTS)]).sum(axis=1).min() >= 0.999
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)
    head = reference.encode([LONG], normalize_embeddings=True)[0]  # type: ignore[attr-defined]
    assert head @ load_embedder(device="cpu", long_text="head").embed([LONG])[0] >= 0.999


def test_without_bf16_the_dtype_is_fp32_and_results_are_batch_invariant(
    monkeypatch: pytest.MonkeyPatch, reference: object
) -> None:
    monkeypatch.setattr(precision, "_has_bf16", lambda: False)
    embedder = load_embedder(device="cpu")
    assert embedder.execution.dtype == torch.float32
    vectors = embedder.embed([*TEXTS, LONG])
    exact = reference.encode(TEXTS, normalize_embeddings=True)  # type: ignore[attr-defined]
    np.testing.assert_allclose(vectors[:-1], exact, atol=2e-6)
    assert np.array_equal(np.concatenate([embedder.embed([each]) for each in [*TEXTS, LONG]]), vectors)


def test_a_fast_dtype_that_disagrees_with_fp32_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "MIN_COSINE", 1.1)
    monkeypatch.setattr(precision, "_has_bf16", lambda: True)
    assert load_embedder(device="cpu").execution.dtype == torch.float32
    assert "disagrees with fp32" in caplog.text


def test_dependent_rows_select_fixed_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    original = SentenceEmbedder._vectors

    def batch_dependent(self: SentenceEmbedder, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return original(self, ids, mask) + np.float32(1e-4 * len(ids))

    monkeypatch.setattr(SentenceEmbedder, "_vectors", batch_dependent)
    embedder = load_embedder(device="cpu")
    assert embedder.execution.fixed_rows
    alone = np.concatenate([embedder.embed([each]) for each in TEXTS])
    assert np.array_equal(embedder.embed(TEXTS), alone)


@pytest.mark.parametrize("long_text", ["mean", "head", "tail"])
def test_treatment_of_long_texts(long_text: str, embedder: SentenceEmbedder) -> None:
    loaded = load_embedder(device="cpu", long_text=long_text)  # type: ignore[arg-type]
    start, end = text(260, 11), text(260, 12)
    whole, other_end, other_start = (
        loaded.embed([f"{start} {end}"])[0],
        loaded.embed([f"{start} {text(260, 13)}"])[0],
        loaded.embed([f"{text(260, 13)} {end}"])[0],
    )
    assert np.array_equal(whole, other_end) == (long_text == "head")
    assert np.array_equal(whole, other_start) == (long_text == "tail")
    assert np.array_equal(loaded.embed([TEXTS[5]]), embedder.embed([TEXTS[5]]))
    assert loaded.fingerprint.long_text == long_text
    assert (str(loaded.fingerprint) == str(embedder.fingerprint)) == (long_text == "mean")


def test_a_text_of_five_megabytes_costs_no_more_than_its_two_ends(embedder: SentenceEmbedder) -> None:
    filler = "half as many as one did " * 200_000
    ends = [text(2500, 3), text(2500, 4)]
    began = time.process_time()
    one = embedder.embed([ends[0] + " " + filler + " " + ends[1]])
    seconds = time.process_time() - began
    assert np.array_equal(one, embedder.embed([f"{ends[0]} {filler[:200_000]} {ends[1]}"]))
    began = time.process_time()
    embedder.embed([text(200, seed) for seed in range(MAX_WINDOWS)])
    assert seconds < 20 * (time.process_time() - began)


def test_odd_texts_have_vectors(embedder: SentenceEmbedder) -> None:
    vectors = embedder.embed(["\x00", "\u200b", "日本語のテキスト", "a" * 5000, "🙂" * 400, "1" * 80])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_repeats_order_and_progress(embedder: SentenceEmbedder, expected: np.ndarray) -> None:
    reported: list[int] = []
    vectors = embedder.embed([TEXTS[3], LONG, TEXTS[0], TEXTS[3]], reported.append)
    assert np.array_equal(vectors, expected[[3, -1, 0, 3]])
    assert sum(reported) == 4
    assert all(done > 0 for done in reported)
    assert embedder.embed([]).shape == (0, 384)


def test_threads_may_share_an_embedder_and_the_thread_setting_is_restored(
    embedder: SentenceEmbedder, expected: np.ndarray
) -> None:
    before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(embedder.embed, [[*TEXTS, LONG]] * 4):
            assert np.array_equal(vectors, expected)
    assert torch.get_num_threads() == before


def test_an_interrupt_stops_embedding_at_once(
    embedder: SentenceEmbedder, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread finishes its batch and starts no other."""
    planned: list[Batch] = []
    begun: list[Batch] = []
    cancelled = threading.Event()
    original = embedder._batch

    def plan(*arguments: Any) -> list[Batch]:
        planned.extend(batches(*arguments))
        return planned

    def blocked(windows: Any, batch: Batch, rows: int) -> np.ndarray:
        begun.append(batch)
        if batch is not planned[0]:
            cancelled.wait(200)
        return original(windows, batch, rows)

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            cancelled.set()
            super().shutdown(wait=wait)

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(encoder, "batches", plan)
        patched.setattr(workers, "ThreadPoolExecutor", Pool)
        patched.setattr(embedder, "_batch", blocked)
        with pytest.raises(KeyboardInterrupt):
            embedder.embed([text(100, seed) for seed in range(400)], interrupt)
    assert 1 <= len(begun) <= torch.get_num_threads() + 1
    assert len(begun) < len(planned)
    assert np.array_equal(embedder.embed(TEXTS), expected[: len(TEXTS)])


def test_a_blank_text_is_rejected(embedder: SentenceEmbedder) -> None:
    with pytest.raises(InputError, match="text 1 is blank"):
        embedder.embed(["a", " \n\t"])


def test_a_folder_without_a_model_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(EmbedderError, match="cannot load"):
        load_embedder(str(tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_device_is_rejected() -> None:
    with pytest.raises(EmbedderError, match="cannot run on cuda"):
        load_embedder(device="cuda")
