"""Sentence encoder with batch-invariant results: on one machine a vector depends on its text alone, bit for bit.

Without this an ingest that is killed and resumed would end with other vectors than an uninterrupted one. Each window
is padded to a length that depends on the window alone (`windows.py`). The number of rows of a batch is chosen in one
of two ways, which `precision.py` selects by a probe:

- variable rows, if the kernels of this machine compute a row independently of the other rows;
- fixed rows otherwise: all batches of one length have the same number of rows, padded with copies.

The transformer runs in the given dtype; pooling and normalisation run in fp32.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from memstore.embedding.protocol import Fingerprint, ProgressCallback
from memstore.embedding.windows import Batch, batches, cut, head_and_tail, rows_in
from memstore.embedding.workers import single_core_threads
from memstore.errors import EmbedderError, InputError
from memstore.types import FloatMatrix

CPU_MAX_TOKENS = 2_048
"""Maximum tokens per batch on a CPU; larger batches were not faster."""
CPU_MIN_TOKENS = 256
"""Minimum tokens per batch on a CPU; smaller batches do not keep a core busy."""
CPU_FIXED_TOKENS = 512
"""Tokens per batch on a CPU with fixed rows; small, because incomplete batches are padded with copies."""
GPU_TOKENS = 8_192
"""Tokens per batch on a GPU."""
_TEXTS_PER_CALL = 8_192
"""Texts tokenised at once; bounds memory."""


class Execution(NamedTuple):
    """Device, dtype and batch shape of the transformer."""

    device: str
    dtype: torch.dtype
    fixed_rows: bool
    """Whether all batches of one length have the same number of rows."""

    def batch_tokens(self, tokens: int, cores: int) -> int:
        """Return the tokens per batch for `tokens` in total; variable rows spread a small job over the cores."""
        if not self.device.startswith("cpu"):
            return GPU_TOKENS
        if self.fixed_rows:
            return CPU_FIXED_TOKENS
        return min(max(tokens // cores, CPU_MIN_TOKENS), CPU_MAX_TOKENS)


class SentenceEmbedder:
    """`Embedder` for a sentence-transformers model."""

    def __init__(self, model: Any, fingerprint: Fingerprint, execution: Execution) -> None:
        """Wrap a loaded `SentenceTransformer`; call `load_embedder` instead."""
        self.fingerprint = fingerprint
        self.execution = execution
        self._tokenizer = model.tokenizer
        self._tokenizing = threading.Lock()
        self._running = threading.Lock()
        self._transformer = model[0].auto_model.to(execution.device, execution.dtype).eval()
        self._pooling = [module.to(execution.device).float().eval() for module in list(model.children())[1:]]
        self._prefix, self._suffix = _special_tokens(model.tokenizer)
        self._pad = int(model.tokenizer.pad_token_id or 0)

    def embed(self, texts: Sequence[str], progress: ProgressCallback | None = None) -> FloatMatrix:
        """Return unit vectors, float32 [N, D], of non-blank texts in their order.

        Args:
            progress: called with the number of texts finished; repeated texts are reported first.

        Raises:
            InputError: a text is blank.
            EmbedderError: the GPU ran out of memory.
        """
        index_of: dict[str, int] = {}
        for position, text in enumerate(texts):
            if not text.strip():
                raise InputError(f"text {position} is blank; pass only texts with visible characters")
            index_of.setdefault(text, len(index_of))
        unique = list(index_of)
        if progress is not None and len(texts) > len(unique):
            progress(len(texts) - len(unique))
        vectors = np.empty((len(unique), self.fingerprint.dimension), dtype=np.float32)
        for start in range(0, len(unique), _TEXTS_PER_CALL):
            part = unique[start : start + _TEXTS_PER_CALL]
            vectors[start : start + len(part)] = self._embed_unique(part, progress)
        rows = np.array([index_of[text] for text in texts], dtype=np.intp)
        return np.take(vectors, rows, axis=0)

    def _embed_unique(self, texts: list[str], progress: ProgressCallback | None) -> FloatMatrix:
        size = self.fingerprint.window - len(self._prefix) - len(self._suffix)
        parts = [cut(tokens, size, self.fingerprint.long_text) for tokens in self._tokens(texts)]
        windows = [window for part in parts for window in part]
        counts = np.array([len(part) for part in parts], dtype=np.int64)
        owner = np.repeat(np.arange(len(texts)), counts)
        found = np.empty((len(windows), self.fingerprint.dimension), dtype=np.float32)
        left = counts.copy()
        with self._running, closing(self._run(windows)) as running:
            for batch, vectors in running:
                found[batch.windows] = vectors
                np.subtract.at(left, owner[batch.windows], 1)
                done = int((left[np.unique(owner[batch.windows])] == 0).sum())
                if progress is not None and done:
                    progress(done)
        return _averaged(found, counts, np.array([len(window) for window in windows], dtype=np.int64))

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # A fast tokenizer raises "Already borrowed" when two threads use it at the same time.
        with self._tokenizing:
            encoded = self._tokenizer(
                [head_and_tail(text) for text in texts],
                add_special_tokens=False,
                truncation=False,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
        tokens: list[list[int]] = encoded["input_ids"]
        return tokens

    def _run(self, windows: list[Sequence[int]]) -> Generator[tuple[Batch, FloatMatrix], None, None]:
        """Yield each batch of these windows with its vectors, in the order of `batches`."""
        special = len(self._prefix) + len(self._suffix)
        lengths = np.array([len(window) + special for window in windows], dtype=np.int64)
        cores = torch.get_num_threads() if self.execution.device.startswith("cpu") else 1
        budget = self.execution.batch_tokens(int(lengths.sum()), cores)
        planned = list(batches(lengths, budget, self.fingerprint.window))
        rows = [rows_in(batch.length, budget) if self.execution.fixed_rows else len(batch.windows) for batch in planned]
        with single_core_threads(cores) as pool:
            try:
                yield from zip(planned, pool.map(self._batch, repeat(windows), planned, rows), strict=True)
            except torch.OutOfMemoryError as error:
                raise EmbedderError(
                    "the GPU ran out of memory while embedding; free some of it, or pass --device cpu"
                ) from error

    def _batch(self, windows: list[Sequence[int]], batch: Batch, rows: int) -> FloatMatrix:
        """Unit vectors of one batch, padded to `rows` rows with copies of its last window."""
        ids = np.full((rows, batch.length), self._pad, dtype=np.int64)
        mask = np.zeros((rows, batch.length), dtype=np.int64)
        for row in range(rows):
            window = windows[batch.windows[min(row, len(batch.windows) - 1)]]
            line = [*self._prefix, *window, *self._suffix]
            ids[row, : len(line)] = line
            mask[row, : len(line)] = 1
        return self._vectors(ids, mask)[: len(batch.windows)]

    def _vectors(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> FloatMatrix:
        """Unit vectors float32 [B, D] from token ids and attention mask, both int64 [B, L]."""
        device = self.execution.device
        with torch.inference_mode():
            features = {
                "input_ids": torch.from_numpy(ids).to(device),
                "attention_mask": torch.from_numpy(mask).to(device),
            }
            states = self._transformer(**features).last_hidden_state
            features["token_embeddings"] = states.float()
            for module in self._pooling:
                features = module(features)
            unit = torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=1)
        vectors: FloatMatrix = unit.cpu().numpy()
        return vectors


def _averaged(found: FloatMatrix, counts: NDArray[np.int64], tokens: NDArray[np.int64]) -> FloatMatrix:
    """Average the window vectors of each text, weighted by tokens, and normalise; single windows are unchanged."""
    starts = np.cumsum(counts) - counts
    result: FloatMatrix = found[starts]
    for text in np.flatnonzero(counts > 1):
        mine = slice(starts[text], starts[text] + counts[text])
        total = (tokens[mine, None] * found[mine].astype(np.float64)).sum(axis=0)
        result[text] = total / np.sqrt((total * total).sum())
    return result


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids that the tokenizer adds before and after a text."""
    whole: list[int] = tokenizer("a")["input_ids"]
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    before = next(start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
    return whole[:before], whole[before + len(bare) :]
