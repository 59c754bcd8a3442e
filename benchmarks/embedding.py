"""Compare speed and precision of embedding with sentence-transformers, on texts of real rollouts.

    python benchmarks/embedding.py [--texts 2000] [--threads N] [FILE.jsonl[.gz] ...]

All peers run in one process on the same texts and take turns slice by slice, so that other load on the machine affects
all of them alike. Loading is not timed. Without files, the script reads those of `$MEMSTORE_TEST_DATA/rollouts` or of
`../shared/data/rollouts`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from memstore.embedding.encoder import SentenceEmbedder
from memstore.embedding.minilm import load_embedder
from memstore.embedding.model_files import find_model
from memstore.embedding.precision import fp32_execution

SLICES = 8
REFERENCE = "sentence-transformers, fp32, default settings"


class Measured(NamedTuple):
    """Seconds of one peer over all slices, and its vectors."""

    wall: float
    cpu: float
    vectors: np.ndarray


def rollout_texts(files: Sequence[Path], count: int) -> list[str]:
    """A sample of the texts that an ingest embeds: queries, and thinkings (where blank, answers)."""
    texts: dict[str, None] = {}
    for file in files:
        opener: Callable[..., Any] = gzip.open if file.suffix == ".gz" else open
        with opener(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                for text in (row["query"], row["thinking"] if row["thinking"].strip() else row["answer"]):
                    if text.strip():
                        texts[text] = None
    every = list(texts)
    chosen = np.random.default_rng(0).permutation(len(every))[:count]
    return [every[position] for position in chosen]


def peers() -> dict[str, Callable[[list[str]], np.ndarray]]:
    """The embedding functions to compare, by name."""
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(find_model("all-MiniLM-L6-v2")), device="cpu")
    ours = load_embedder(device="cpu")
    plain = SentenceEmbedder(
        SentenceTransformer(str(find_model("all-MiniLM-L6-v2")), device="cpu"),
        ours.fingerprint,
        fp32_execution("cpu"),
    )
    precision = str(ours.execution.dtype).removeprefix("torch.")

    def encode(texts: list[str], batch: int) -> np.ndarray:
        return np.asarray(reference.encode(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False))

    return {
        REFERENCE: lambda texts: encode(texts, 32),
        "sentence-transformers, fp32, batches of 8": lambda texts: encode(texts, 8),
        "memstore, fp32": plain.embed,
        f"memstore, default settings here ({precision})": ours.embed,
    }


def measure(texts: list[str], slices: int) -> dict[str, Measured]:
    """Run every peer over every slice."""
    compared = peers()
    total: dict[str, Measured] = {}
    for name, embed in compared.items():
        embed(texts[:16])
        total[name] = Measured(0.0, 0.0, np.zeros((0, 384), np.float32))
    for part in np.array_split(np.arange(len(texts)), slices):
        some = [texts[position] for position in part]
        for name, embed in compared.items():
            wall, cpu = time.perf_counter(), time.process_time()
            vectors = embed(some)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            before = total[name]
            total[name] = Measured(
                before.wall + wall, before.cpu + cpu, np.concatenate([before.vectors, vectors.astype(np.float32)])
            )
    return total


def within_window(texts: list[str]) -> np.ndarray:
    """bool [N]: texts that fit into the model's window."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(find_model("all-MiniLM-L6-v2")))
    tokens = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    lengths = np.array([len(line) for line in tokens])
    print(f"{len(texts)} texts, {lengths.mean():.0f} tokens on average, {(lengths > 256).mean():.1%} beyond the window")
    return lengths <= 256


def table(texts: list[str], measured: dict[str, Measured]) -> None:
    """Print the table."""
    whole = within_window(texts)
    reference = measured[REFERENCE]
    print(f"{'':46} {'texts/s':>8} {'per cpu-s':>10} {'times faster':>13} {'by cpu':>7} {'lowest cosine':>14}")
    for name, result in measured.items():
        cosine = (result.vectors[whole] * reference.vectors[whole]).sum(axis=1).min()
        print(
            f"{name:46} {len(texts) / result.wall:8.0f} {len(texts) / result.cpu:10.0f} "
            f"{reference.wall / result.wall:13.2f} {reference.cpu / result.cpu:7.2f} {cosine:14.5f}"
        )


def batch_invariance(texts: list[str], rounds: int = 30) -> None:
    """Embed random batches of the same texts and count the vectors whose bits depend on the batch."""
    embedder = load_embedder(device="cpu")
    some, rng = texts[:300], np.random.default_rng(1)
    alone = np.concatenate([embedder.embed([text]) for text in some])
    changed = seen = 0
    for _ in range(rounds):
        chosen = rng.choice(len(some), int(rng.integers(2, 120)), replace=False)
        vectors = embedder.embed([some[position] for position in chosen])
        changed += int((vectors != alone[chosen]).any(axis=1).sum())
        seen += len(chosen)
    seconds = min(_timed(lambda: embedder.embed(texts[:8])) for _ in range(5))
    print(f"in {rounds} random batches, {changed} of {seen} vectors differ in any bit from the text's own vector")
    print(f"a call for 8 texts takes {seconds * 1000:.0f} ms")


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _default_files() -> list[Path]:
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    return sorted((Path(os.environ.get("MEMSTORE_TEST_DATA", beside)) / "rollouts").glob("*.jsonl.gz"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="rollouts with query, thinking and answer")
    parser.add_argument("--texts", type=int, default=2000, help="how many texts (default 2000)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own)")
    options = parser.parse_args()
    files = options.files or _default_files()
    if not files:
        sys.exit("no rollouts found; name files, or set MEMSTORE_TEST_DATA to a folder with rollouts/*.jsonl.gz")
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    texts = rollout_texts(files, options.texts)
    table(texts, measure(texts, SLICES))
    batch_invariance(texts)


if __name__ == "__main__":
    main()
