"""Sample data: rollouts of a tiny policy on arithmetic word problems, graded exactly.

    arithmetic       400 word problems with eight rollouts each from an early and from a late checkpoint
    arithmetic_new   40 other problems with eight rollouts each from the late checkpoint

Both files are gzipped JSON lines, as `memstore ingest` reads them. Every rollout carries its true reward. To learn from
a part of the labels, train with a label budget. examples/sample_rollouts generates the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

Sample: TypeAlias = Literal["arithmetic", "arithmetic_new"]


def sample_path(name: Sample = "arithmetic") -> Path:
    """Path of an installed sample file."""
    return Path(__file__).parent / f"{name}.jsonl.gz"
