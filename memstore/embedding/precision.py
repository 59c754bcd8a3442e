"""How the transformer may run on this machine: in which precision, and whether rows of a batch are independent.

Neither is taken on trust. A fast precision is used only if its vectors of the probe texts agree with fp32's, and
rows are left free only if the probes come out bit for bit the same alone and in company. int8 is never used: its
cosine to fp32 was measured at .87 to .91.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from memstore.embedding.encoder import Execution, SentenceEmbedder
from memstore.types import FloatMatrix

logger = logging.getLogger(__name__)

LEAST_COSINE = 0.999
_SENTENCE = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
PROBES = [_SENTENCE[:length] for length in (7, 20, 47, 95)] + [_SENTENCE * times for times in (2, 3, 5, 9)]


def fast_dtype(device: str) -> torch.dtype:
    """The fastest precision that this device may have: fp16 on a GPU, bf16 on a processor with instructions for it."""
    if not device.startswith("cpu"):
        return torch.float16
    return torch.bfloat16 if _has_bf16() else torch.float32


def agrees(fast: FloatMatrix, exact: FloatMatrix) -> bool:
    """Whether the fast precision's vectors of the probes are as good as fp32's."""
    lowest = float((fast * exact).sum(axis=1).min()) if np.isfinite(fast).all() else float("nan")
    if lowest >= LEAST_COSINE:
        return True
    logger.warning("the fast precision of this machine is not faithful (lowest cosine %.5f); fp32 is used", lowest)
    return False


def rows_are_free(embedder: SentenceEmbedder) -> bool:
    """Whether the probes' bits are the same alone, in company, and in another order."""
    if not embedder.execution.device.startswith("cpu"):
        return False
    company = [f"{number} {probe}" for probe in PROBES for number in range(10, 15)]
    together = embedder.embed([*PROBES, *company])[: len(PROBES)]
    turned = embedder.embed([*company[::-1], *PROBES[::-1]])[: -len(PROBES) - 1 : -1]
    alone = np.concatenate([embedder.embed([probe]) for probe in PROBES])
    return bool(np.array_equal(together, alone) and np.array_equal(turned, alone))


def choose_device(device: str | None) -> str:
    """The given device; else a GPU when there is one."""
    if device is not None:
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def exact_execution(device: str) -> Execution:
    """fp32 with free rows: the yardstick that the probes are compared with."""
    return Execution(device, torch.float32, False)


def _has_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices natively (x86 Linux; elsewhere unknown, which counts as no)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))
