"""The memory's part of the training: it is filled, trained on, served, and trained on again with what came in since.

One process owns an embedded memory. While a policy trains, that is `memstore serve`: it answers with rewards and
records every rollout it was asked about, with run and step, ground truth or prediction. Between two rounds it stops,
this process trains the reward model on all that the memory holds by then, and it starts again.
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
    """Write rollouts to a file and ingest it; the memory is made if it is not there."""
    file.write_text("".join(json.dumps(rollout) + "\n" for rollout in rollouts), encoding="utf-8")
    with Memory.open(folder, create=True) as memory:
        memory.ingest([file])


class Trained(NamedTuple):
    """A reward model, and how the rollouts that came in since differ from what the one before had learnt from."""

    model: str
    drift: str | None


def train_again(folder: Path, seed: int, run: str, since: int = 0) -> Trained:
    """Train on every label that the memory has by now: the script itself measures how good the model is.

    Args:
        run, since: the rollouts to look for drift in: of this run, from this step on.
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
    """`memstore serve` over a memory, at one address however often it starts. Its log is in a file."""

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
        """Start it, and return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)
        self.client.info()

    def stop(self) -> None:
        """Have it write what it has recorded to the memory, and end."""
        if self._process is None:
            return
        self._process.terminate()
        if self._process.wait(STOPS_WITHIN_S):
            raise SystemExit(f"the reward service failed; {self._log} says why")
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.client.close()
