"""Choose the dtype for this machine, and probe whether the rows of a batch are independent.

A fast dtype is used only if its vectors of the probe texts agree with fp32. Variable rows are used only if the probes
have the same bits alone, in a batch and in another order. int8 is never used: its lowest cosine to fp32 was .87 with
torch and .91 with ONNX Runtime.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from memstore.embedding.encoder import Execution, SentenceEmbedder
from memstore.types import FloatMatrix

logger = logging.getLogger(__name__)

MIN_COSINE = 0.999
"""Minimum cosine between the vectors of a fast dtype and of fp32; bf16 was measured at .9999."""
_SENTENCE = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
PROBES = [_SENTENCE[:length] for length in (7, 20, 47, 95)] + [_SENTENCE * times for times in (2, 3, 5, 9)]


def fast_dtype(device: str) -> torch.dtype:
    """Return the fastest candidate dtype: fp16 on a GPU, bf16 on a CPU with bf16 instructions, otherwise fp32."""
    if not device.startswith("cpu"):
        return torch.float16
    return torch.bfloat16 if _has_bf16() else torch.float32


def agrees(fast: FloatMatrix, exact: FloatMatrix) -> bool:
    """Return whether the fast dtype's vectors of the probes agree with those of fp32; log a warning if not."""
    lowest = float((fast * exact).sum(axis=1).min()) if np.isfinite(fast).all() else float("nan")
    if lowest >= MIN_COSINE:
        return True
    logger.warning("the fast dtype disagrees with fp32 (lowest cosine %.5f); using fp32", lowest)
    return False


def rows_are_independent(embedder: SentenceEmbedder) -> bool:
    """Return whether the probes have the same bits alone, in a larger batch, and in another order."""
    if not embedder.execution.device.startswith("cpu"):
        return False
    others = [f"{number} {probe}" for probe in PROBES for number in range(10, 15)]
    batched = embedder.embed([*PROBES, *others])[: len(PROBES)]
    reversed_ = embedder.embed([*others[::-1], *PROBES[::-1]])[: -len(PROBES) - 1 : -1]
    alone = np.concatenate([embedder.embed([probe]) for probe in PROBES])
    return bool(np.array_equal(batched, alone) and np.array_equal(reversed_, alone))


def choose_device(device: str | None) -> str:
    """Return the given device, or a GPU if there is one, or the CPU."""
    if device is not None:
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def fp32_execution(device: str) -> Execution:
    """Return fp32 with variable rows, the reference that the probes are compared with."""
    return Execution(device, torch.float32, False)


def _has_bf16() -> bool:
    """Whether the CPU has bf16 matrix instructions; detected on x86 Linux only, False elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))
