"""The benchmark of GPUs runs at its smallest size: on the CPU, on a stand-in for a GPU, and not without a GPU."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from memstore.embedding.minilm import load_embedder
from memstore.testing.doubles.device import second_device

ROOT = Path(__file__).resolve().parents[2]
LINES = ["embed", "link", "train", "score", "paper: train", "paper: score"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "gpu", raising=False)
    import gpu

    found: Callable[[list[str]], None] = gpu.main
    return found


def cells(text: str) -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[1:]}


def test_the_smallest_run_on_the_cpu(run: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]) -> None:
    run(["--device", "cpu", "--small"])
    table = cells(capsys.readouterr().out)
    assert list(table) == LINES
    assert all(len(row) == 2 and float(row[1]) > 0 for row in table.values())


def test_a_device_beside_the_cpu(
    run: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = load_embedder(device="cpu")  # transformers does not run on the stand-in
    monkeypatch.setattr(sys.modules["gpu"], "load_embedder", lambda device: embedder)
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a stand-in")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with second_device() as device:
        run(["--device", device, "--small"])
    table = cells(capsys.readouterr().out)
    assert list(table) == LINES
    assert {row[4] for row in table.values()} == {"1"}
    assert float(table["embed"][5].removeprefix("cosine at least ")) > 0.999
    assert table["link"][5] == "recall 1.00000"
    for name in LINES[2:]:
        assert re.fullmatch(r"probabilities within \d\.\de[-+]\d\d", table[name][5])
        assert float(table[name][5].rpartition(" ")[2]) < 1e-3


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_device_is_one_sentence(run: Callable[[list[str]], None]) -> None:
    with pytest.raises(SystemExit, match="torch finds no CUDA device here, so cuda:0 cannot be measured; pass --dev"):
        run([])
