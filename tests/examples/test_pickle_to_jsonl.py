"""The converter of pickles: lists, data frames and files of `torch.save` become rows that ingest reads."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from memstore.errors import InputError
from memstore.records.preview import preview
from memstore.records.readers import open_source

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "pickle_to_jsonl.py"
ROWS = [{"prompt": "How many?", "response": "#### 12", "reward": 1.0, "tokens": np.arange(3)}]


def slime_dump(path: Path) -> None:
    """As slime's `--save-debug-rollout-data` does."""
    samples = [{**ROWS[0], "tokens": torch.arange(3), "status": "completed"}]
    torch.save({"rollout_id": 1, "samples": samples}, path)


def pickled(path: Path, value: Any, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps(value, protocol))


@pytest.mark.parametrize("kind", ["list", "frame", "torch"])
def test_a_pickle_is_refused_and_its_conversion_is_read(tmp_path: Path, kind: str) -> None:
    path, new = tmp_path / "a.pt", tmp_path / "a.jsonl"
    if kind == "torch":
        slime_dump(path)
    else:
        pickled(path, ROWS if kind == "list" else pd.DataFrame(ROWS))
    with pytest.raises(InputError, match="pickle_to_jsonl.py"):
        list(open_source(path))
    done = subprocess.run([sys.executable, SCRIPT, path, new], capture_output=True, text=True, check=True)
    assert done.stdout == f"rows written to {new}: 1\n"
    (found,) = preview([new])
    assert [(one.query, one.answer, one.reward) for one in found.records] == [("How many?", "#### 12", 1.0)]
