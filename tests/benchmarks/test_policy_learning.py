"""The benchmark of policy learning: its smallest run, and its table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--seeds 7 --problems 24 --held-out 16 --budget 0.5 --lessons 300 --steps 2 --every 1 --retrain 1 --queries 4"
MODES = ("budget", "paper", "memory", "verdict-4")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules of the benchmark importable during a test only."""
    folders = [ROOT / "benchmarks", ROOT / "examples" / "sample_rollouts", ROOT / "examples" / "learn_from_memory"]
    for folder in folders:
        monkeypatch.syspath_prepend(str(folder))
        for file in folder.glob("*.py"):
            monkeypatch.delitem(sys.modules, file.stem, raising=False)


def words(folder: Path, *options: str) -> list[str]:
    """The command line of the benchmark."""
    return [str(ROOT / "benchmarks" / "policy_learning.py"), "--folder", str(folder), *SMALL.split(), *options]


def run_here(monkeypatch: pytest.MonkeyPatch, *line: str) -> None:
    """Run the benchmark in this process, where it may not train."""
    import policy_learning

    monkeypatch.setattr(sys, "argv", list(line))
    monkeypatch.setattr(policy_learning, "run_processes", lambda train, work, processes: ["trained"] if work else [])
    policy_learning.main(None, policy_learning.Study, policy_learning.Options)


@pytest.mark.slow
@pytest.mark.usefixtures("benchmark")
def test_smallest_run_trains_in_four_modes_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(tmp_path, "--modes", *MODES)
    ran = subprocess.run([sys.executable, *line], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-2000:]
    results = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "seed-7").glob("*-4.json")}
    results |= {name: json.loads((tmp_path / "seed-7" / f"{name}.json").read_text()) for name in MODES[:3]}
    assert {name: list(result["curve"]) for name, result in results.items()} == {
        name: ["0", "1", "2"] for name in MODES
    }
    assert len({result["curve"]["0"] for result in results.values()}) == 1
    assert results["budget"]["verified"] == results["budget"]["rollouts"] == 64
    assert 0 < results["paper"]["verified"] < 64, "labelled problems are no whole batch"
    assert results["memory"]["verified"] == 32, "half of each batch is labelled"
    assert results["verdict-4"]["verified"] <= 8
    assert "| memory |" in ran.stdout
    assert (tmp_path / "policy_learning.png").stat().st_size > 1000
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "seed-7").glob("*.json")}
    run_here(monkeypatch, *line)
    assert capsys.readouterr().out == ran.stdout[ran.stdout.index("| mode") :]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "seed-7").glob("*.json")} == written
    with pytest.raises(SystemExit, match="has other settings"):
        run_here(monkeypatch, *words(tmp_path, "--rate", "0.5"))


@pytest.mark.usefixtures("benchmark")
def test_table_compares_with_the_oracle_and_the_budget_of_the_same_seeds() -> None:
    from policy_learning_table import table

    def result(end: float) -> dict[str, object]:
        return {"curve": {"0": 0.5, "80": end}, "verified": 100}

    results = {
        "oracle": {1: result(0.6), 2: result(0.8)},
        "budget": {1: result(0.5), 2: result(0.6)},
        "memory": {1: result(0.57), 2: result(0.76)},
    }
    lines = table(results).splitlines()
    assert lines[0] == "| mode | seed 1 | seed 2 | mean | of oracle | less budget | verifier calls |"
    assert lines[3].startswith("| oracle | 0.600 | 0.800 | 0.700 | 100.0 % |")
    assert lines[5] == "| memory | 0.570 | 0.760 | 0.665 | 95.0 % | +0.115 ± 0.045 | 100 |"
    del results["memory"][2]
    assert table(results).splitlines()[5] == "| memory | 0.570 |  | 0.570 | 95.0 % | +0.070 | 100 |"
