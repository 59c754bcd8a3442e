"""A run killed with SIGKILL and resumed ends with the same file and memory as an undisturbed run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.testing.addition_queries import rows_of
from memstore_rl.testing.openai_stub import Stub, serving

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
from memstore.memory import Memory
from memstore.progress import Silent
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.rollout.endpoint import EndpointEngine
from memstore_rl.rollout.engine import Sampling
from memstore_rl.rollout.run import RolloutPlan, rollout
from memstore_rl.testing.addition_queries import sums

class Printed(Silent):  # the number of rollouts after each write
    done = 0

    def advance(self, count):
        self.done += count
        print(self.done, flush=True)

url, folder = sys.argv[1], Path(sys.argv[2])
plan = RolloutPlan(4, Sampling(seed=1), block_rows=20)
with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
    rollout(list(sums(60)), EndpointEngine(url, "stub", concurrency=4), folder / "a.jsonl", plan, memory=memory,
            progress=Printed())
"""


def test_killed_and_resumed_runs_give_the_same_rollouts() -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "rollout.py"), "--no-costs", "--kills", "2", "--seed", "3"]
    words = [*script, "--rollouts", "960", "--concurrency", "16"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2 kills (")
    assert ", 960 rollouts, " in done.stdout
    assert "the same set" in done.stdout


def test_a_run_killed_during_ingest_loses_and_duplicates_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SCRIPT]
    # The server stalls midway, so the kill always comes before the end of the run.
    with (
        serving(Stub(delay_s=0.02, stall_after=40)) as url,
        subprocess.Popen([*words, url, str(tmp_path)], stdout=subprocess.PIPE, text=True) as running,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            if int(line) >= 70:
                break
        running.kill()
    assert running.returncode < 0
    assert 70 <= lines_in(tmp_path / "a.jsonl") <= 160
    with serving(Stub()) as url:
        subprocess.run([*words, url, str(tmp_path)], check=True, timeout=250)
    assert len({(row["query_id"], row["sample_index"]) for row in rows_of(tmp_path / "a.jsonl")}) == 240
    with Memory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        assert memory.stats().thinkings == 240
        assert memory.verify().ok
        again = memory.ingest([tmp_path / "a.jsonl"])
    assert (again.added, again.unchanged, again.rejected) == (0, 240, 0)


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
