"""Sample data that comes with memstore: rollouts that a tiny policy really wrote, graded exactly.

    arithmetic       400 word problems with eight rollouts each from an early and from a late checkpoint
    arithmetic_new   40 other problems with eight rollouts each from the late checkpoint

Both are JSON lines, gzipped, as `memstore ingest` reads them. Every rollout carries its true reward; who wants to
learn from a share of the labels hides the others. examples/sample_rollouts made them and makes them again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

Sample: TypeAlias = Literal["arithmetic", "arithmetic_new"]


def sample_path(name: Sample = "arithmetic") -> Path:
    """The file of a sample, as installed."""
    return Path(__file__).parent / f"{name}.jsonl.gz"
