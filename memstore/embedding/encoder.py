"""A transformer over texts whose vectors are a function of the text alone, bit for bit, on one machine.

Neither the texts beside it nor their number may change a vector's last bits, or an ingest that was killed and went
on would end with other vectors than one that was not. A window is therefore padded to a length of its own
(`windows.py`), and runs in one of two ways, which `precision.py` chooses:

- rows are free where the processor's kernels compute a row the same whatever stands in the others;
- else a batch always has the same number of rows for its length, filled up with copies.

The transformer runs in the given precision; pooling and normalisation in fp32.
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

from memstore.embedding.protocol import Fingerprint, Progress
from memstore.embedding.windows import Batch, batches, cut, ends, rows_in
from memstore.embedding.workers import one_core_each
from memstore.errors import InputError
from memstore.types import FloatMatrix

CPU_TOKENS = 2_048
"""Tokens of a batch on a CPU; more gain nothing."""
CPU_LEAST_TOKENS = 256
"""Fewer would keep no core busy."""
CPU_FIXED_TOKENS = 512
"""The same where rows are fixed: filling up costs as much as it must."""
GPU_TOKENS = 8_192
_TEXTS_AT_ONCE = 8_192


class Execution(NamedTuple):
    """Where and how the transformer runs."""

    device: str
    dtype: torch.dtype
    fixed_rows: bool

    def budget(self, tokens: int, cores: int) -> int:
        """Tokens of a full batch, of so many in all: where rows are free, small work is spread over the cores."""
        if not self.device.startswith("cpu"):
            return GPU_TOKENS
        if self.fixed_rows:
            return CPU_FIXED_TOKENS
        return min(max(tokens // cores, CPU_LEAST_TOKENS), CPU_TOKENS)


class SentenceEmbedder:
    """`Embedder` over a sentence-transformers model."""

    def __init__(self, model: Any, fingerprint: Fingerprint, execution: Execution) -> None:
        """Wrap a loaded `SentenceTransformer`; use `load_embedder`."""
        self.fingerprint = fingerprint
        self.execution = execution
        self._tokenizer = model.tokenizer
        self._tokenizing = threading.Lock()
        self._running = threading.Lock()
        self._transformer = model[0].auto_model.to(execution.device, execution.dtype).eval()
        self._after = [module.to(execution.device).float().eval() for module in list(model.children())[1:]]
        self._before, self._behind = _special_tokens(model.tokenizer)
        self._pad = int(model.tokenizer.pad_token_id or 0)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> FloatMatrix:
        """Unit vectors float32 [N, D] of non-blank texts, in their order.

        Args:
            progress: is told of every text once, repeated ones first.

        Raises:
            InputError: a text that is blank.
        """
        place: dict[str, int] = {}
        for position, text in enumerate(texts):
            if not text.strip():
                raise InputError(f"text {position} is blank; there is nothing to embed")
            place.setdefault(text, len(place))
        unique = list(place)
        if progress is not None and len(texts) > len(unique):
            progress(len(texts) - len(unique))
        vectors = np.empty((len(unique), self.fingerprint.dimension), dtype=np.float32)
        for start in range(0, len(unique), _TEXTS_AT_ONCE):
            part = unique[start : start + _TEXTS_AT_ONCE]
            vectors[start : start + len(part)] = self._embed_unique(part, progress)
        rows = np.array([place[text] for text in texts], dtype=np.intp)
        return np.take(vectors, rows, axis=0)

    def _embed_unique(self, texts: list[str], progress: Progress | None) -> FloatMatrix:
        size = self.fingerprint.window - len(self._before) - len(self._behind)
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
        # A fast tokenizer raises "already borrowed" when two threads use it at once.
        with self._tokenizing:
            encoded = self._tokenizer(
                [ends(text) for text in texts],
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
        """Every batch of these windows and its vectors, in the order of `batches`."""
        special = len(self._before) + len(self._behind)
        lengths = np.array([len(window) + special for window in windows], dtype=np.int64)
        cores = torch.get_num_threads() if self.execution.device.startswith("cpu") else 1
        budget = self.execution.budget(int(lengths.sum()), cores)
        planned = list(batches(lengths, budget, self.fingerprint.window))
        rows = [rows_in(batch.length, budget) if self.execution.fixed_rows else len(batch.windows) for batch in planned]
        with one_core_each(cores) as pool:
            yield from zip(planned, pool.map(self._batch, repeat(windows), planned, rows), strict=True)

    def _batch(self, windows: list[Sequence[int]], batch: Batch, rows: int) -> FloatMatrix:
        """Unit vectors of one batch, which is filled up to `rows` with copies of its last window."""
        ids = np.full((rows, batch.length), self._pad, dtype=np.int64)
        mask = np.zeros((rows, batch.length), dtype=np.int64)
        for row in range(rows):
            window = windows[batch.windows[min(row, len(batch.windows) - 1)]]
            line = [*self._before, *window, *self._behind]
            ids[row, : len(line)] = line
            mask[row, : len(line)] = 1
        return self._vectors(ids, mask)[: len(batch.windows)]

    def _vectors(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> FloatMatrix:
        """Unit vectors float32 [B, D] of token ids and their mask, both int64 [B, L]."""
        device = self.execution.device
        with torch.inference_mode():
            features = {
                "input_ids": torch.from_numpy(ids).to(device),
                "attention_mask": torch.from_numpy(mask).to(device),
            }
            states = self._transformer(**features).last_hidden_state
            features["token_embeddings"] = states.float()
            for module in self._after:
                features = module(features)
            unit = torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=1)
        vectors: FloatMatrix = unit.cpu().numpy()
        return vectors


def _averaged(found: FloatMatrix, counts: NDArray[np.int64], tokens: NDArray[np.int64]) -> FloatMatrix:
    """One unit vector a text from those of its windows, each weighted by its tokens; a single one stays as it is."""
    starts = np.cumsum(counts) - counts
    result: FloatMatrix = found[starts]
    for text in np.flatnonzero(counts > 1):
        mine = slice(starts[text], starts[text] + counts[text])
        total = (tokens[mine, None] * found[mine].astype(np.float64)).sum(axis=0)
        result[text] = total / np.sqrt((total * total).sum())
    return result


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and behind a text."""
    whole: list[int] = tokenizer("a")["input_ids"]
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    before = next(start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
    return whole[:before], whole[before + len(bare) :]
