"""Fill a memory, serve its rewards while a policy trains, and train its reward model again between rounds.

One process owns an embedded memory. While a policy trains, that is `memstore serve`, which returns rewards and records
every rollout with run and step, ground truth or prediction. Between two rounds it stops, this process trains the reward
model on the whole memory, and it starts again.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from memstore.memory import Memory
from memstore_gnn.models.checkpoint import load_origin
from memstore_gnn.models.registry import model_folder, model_nodes
from memstore_gnn.scoring.score import memory_target
from memstore_gnn.verbs import train_memory
from memstore_rl.service.client import RewardClient

STARTS_WITHIN_S, STOPS_WITHIN_S = 300.0, 300.0


def remember(folder: Path, file: Path, rollouts: Sequence[dict[str, Any]]) -> None:
    """Write rollouts to a file and ingest it; the memory is created if there is none."""
    file.write_text("".join(json.dumps(rollout) + "\n" for rollout in rollouts), encoding="utf-8")
    with Memory.open(folder, create=True) as memory:
        memory.ingest([file])


class Trained(NamedTuple):
    """A reward model, and the drift of the new rollouts from the training data of the model before."""

    model: str
    drift: str | None


def train_again(folder: Path, seed: int, run: str, since: int = 0) -> Trained:
    """Train on every label of the memory; the script itself measures the quality of the model.

    Args:
        run, since: check the rollouts of this run from this step on for drift.
    """
    with Memory.open(folder) as memory:
        drift = _drift(memory, run, since) if model_nodes(memory) else None
        return Trained(train_memory(memory, budget=1.0, seed=seed, device="cpu").model, drift)


def _drift(memory: Memory, run: str, since: int) -> str | None:
    snapshot = memory.snapshot()
    runs, steps = (snapshot.thinkings[name].to_pylist() for name in ("run", "step"))
    fresh = [name == run and (step or 0) >= since for name, step in zip(runs, steps, strict=True)]
    origin = load_origin(model_folder(memory))
    return origin.reference.drift(memory_target(snapshot, np.array(fresh))).sentence() if origin else None


class Service:
    """`memstore serve` on a memory, at the same address at every start, with its log in a file."""

    def __init__(self, memory: Path, log: Path, samples: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = str(Path(sys.executable).with_name("memstore"))
        options = ["--port", str(port), "--expected", str(samples), "--device", "cpu"]
        self._command = [program, "serve", "--memory", str(memory), *options]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.client = RewardClient(f"http://127.0.0.1:{port}", deadline_s=STARTS_WITHIN_S)

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)
        self.client.info()

    def stop(self) -> None:
        """Stop it, after it has written its recorded rollouts to the memory."""
        if self._process is None:
            return
        self._process.terminate()
        if self._process.wait(STOPS_WITHIN_S):
            raise SystemExit(f"the reward service failed; see {self._log}")
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.client.close()
