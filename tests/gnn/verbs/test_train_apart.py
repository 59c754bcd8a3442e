"""Training in a child process: the same model as in this process, and nothing in the memory before it is finished."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError, ModelError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.visibility import Visibility
from memstore_gnn.models.checkpoint import load_model
from memstore_gnn.models.registry import list_models, model_folder
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.verbs import open_model, train_memory
from memstore_gnn.verbs.train import latest_rollouts
from memstore_gnn.verbs.train_apart import JOB, RESULT, finish, prepare, trained_model

RELIABILITIES = "MATCH (:Policy)-[r:RELIABLE_IN]->(d:Dataset) RETURN d.name, r.reliability"


def rows(queries: int = 12, steps: int = 3, wrong_step: int | None = None) -> list[dict[str, Any]]:
    """Sums that a run attempted three times at each step; the first attempt at an even number is wrong."""
    found = []
    for number in range(queries):
        for step in range(steps):
            for sample in range(3):
                wrong = step == wrong_step or (sample == 0 and number % 2 == 0)
                answer = str(number + 7 + wrong)
                row = {"query": f"{number} + 7?", "dataset": "sums", "domain": "math", "policy": "p", "run": "r"}
                row |= {"thinking": f"try {sample}: {answer}", "answer": answer, "sample_index": sample, "step": step}
                found.append(row | {"reward": float(not wrong)})
    return found


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    """A memory with a model that may see half of its labels."""
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        ingest(memory, tmp_path, rows(steps=2))
        train_memory(memory, budget=0.5, epochs=2, device="cpu")
        yield memory


def ingest(memory: Memory, folder: Path, rollouts: list[dict[str, Any]]) -> None:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rollouts))
    memory.ingest([file])


def test_child_trains_the_model_that_this_process_would_train(memory: Memory, tmp_path: Path) -> None:
    ingest(memory, tmp_path, rows())
    before = list_models(memory)
    command = prepare(memory, tmp_path / "job", open_model(memory, device="cpu").card, device="cpu")
    assert list_models(memory) == before
    subprocess.run(command, check=True)
    assert list_models(memory) == before
    summary = finish(memory, tmp_path / "job")
    apart = load_model(model_folder(memory, summary.model)).card
    edges = sorted(memory.cypher(RELIABILITIES).rows)
    again = train_memory(memory, budget=0.5, epochs=2, device="cpu")
    assert (again.model, again.as_json()["metrics"]) == (summary.model, summary.as_json()["metrics"])
    here = load_model(model_folder(memory, again.model)).card
    assert {**asdict(apart), "created_at": ""} == {**asdict(here), "created_at": ""}
    assert (apart.budget, apart.settings.epochs) == (0.5, 2)
    assert edges
    assert sorted(memory.cypher(RELIABILITIES).rows) == edges


def test_kill_of_the_child_changes_nothing(memory: Memory, tmp_path: Path) -> None:
    before, folders = list_models(memory), sorted(memory.models_folder.iterdir())
    command = prepare(memory, tmp_path / "job", open_model(memory, device="cpu").card, device="cpu")
    child = subprocess.Popen(command)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert list_models(memory) == before
    assert sorted(memory.models_folder.iterdir()) == folders


ORPHAN = """
import subprocess, sys
from pathlib import Path
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.verbs import open_model
from memstore_gnn.verbs.train_apart import prepare
with Memory.open(sys.argv[1], embedder=HashEmbedder()) as memory:
    command = prepare(memory, Path(sys.argv[2]), open_model(memory, device="cpu").card, device="cpu")
print(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid, flush=True)
"""


def test_child_of_a_process_that_has_ended_does_not_train(memory: Memory, tmp_path: Path) -> None:
    """The child keeps standard output open, so the output ends when the child does."""
    location = str(memory.location)
    memory.close()
    subprocess.run([sys.executable, "-c", ORPHAN, location, str(tmp_path / "job")], stdout=subprocess.PIPE, check=True)
    assert (tmp_path / "job" / JOB).exists()
    assert not (tmp_path / "job" / RESULT).exists()


def test_first_model_of_a_memory(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "first", create=True, embedder=HashEmbedder()) as memory:
        ingest(memory, tmp_path, [{**row, "reward": None} for row in rows(queries=2)])
        command = prepare(memory, tmp_path / "none", None, device="cpu")
        failed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert failed.stderr == (
            "the memory has no labels yet to train a first reward model on; ask again when it has some\n"
        )
        ingest(memory, tmp_path, rows())
        subprocess.run(prepare(memory, tmp_path / "job", None, device="cpu"), check=True)
        model = finish(memory, tmp_path / "job").model
        assert trained_model(tmp_path / "job").name == model
        card = open_model(memory, model, "cpu").card
        assert (card.settings, card.visibility) == (TrainSettings(), Visibility())


def test_child_says_in_one_sentence_why_it_failed(memory: Memory, tmp_path: Path) -> None:
    memory.label(dict.fromkeys(memory.graph.nodes("Thinking", ["id"])["id"].to_pylist(), 1.0), replace=True)
    command = prepare(memory, tmp_path / "job", open_model(memory, device="cpu").card, device="cpu")
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert "visible labels are right, and training needs both classes" in failed.stderr


def test_last_steps_are_those_of_each_run(memory: Memory, tmp_path: Path) -> None:
    other = [row | {"run": "early", "step": row["step"] - 2} for row in rows(queries=2)]
    none = [{**row, "run": "none", "step": None} for row in rows(queries=2, steps=1)]
    ingest(memory, tmp_path, rows() + other + none)
    snapshot = memory.snapshot()
    chosen = snapshot.thinkings.filter(latest_rollouts(snapshot, 2)).select(["run", "step"])
    assert {(row["run"], row["step"]) for row in chosen.to_pylist()} == {
        ("r", 1), ("r", 2), ("early", -1), ("early", 0), ("none", None),
    }  # fmt: skip
    assert latest_rollouts(snapshot, None).all()
    with pytest.raises(InputError, match="pass 1 or more"):
        latest_rollouts(snapshot, 0)


def test_last_steps_decide_what_a_model_is_trained_on(memory: Memory, tmp_path: Path) -> None:
    """At the last step all answers are wrong: no training on it alone, but one on the last two."""
    ingest(memory, tmp_path, rows(queries=12, steps=3, wrong_step=2)[2::3])
    with pytest.raises(ModelError, match="visible labels are wrong"):
        train_memory(memory, epochs=2, last_steps=1, device="cpu")
    two = train_memory(memory, epochs=2, last_steps=2, device="cpu")
    card = open_model(memory, two.model, "cpu").card
    assert (card.last_steps, card.snapshot) == (2, memory.snapshot().manifest.id)
    assert train_memory(memory, epochs=2, device="cpu").model != two.model
