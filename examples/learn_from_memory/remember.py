"""Fill a memory, train its reward model, and serve its rewards while a policy trains.

One process owns an embedded memory: this one at first, then `memstore serve`, which returns rewards, records every
rollout with run and step, ground truth or prediction, and trains the reward model again every so many steps.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memstore.memory import Memory
from memstore_gnn.verbs import train_memory
from memstore_rl.service.client import RewardClient

STARTS_WITHIN_S, STOPS_WITHIN_S = 300.0, 300.0


def remember(folder: Path, file: Path, rollouts: Sequence[dict[str, Any]]) -> None:
    """Write rollouts to a file and ingest it; the memory is created if there is none."""
    file.write_text("".join(json.dumps(rollout) + "\n" for rollout in rollouts), encoding="utf-8")
    with Memory.open(folder, create=True) as memory:
        memory.ingest([file])


def labelled_queries(folder: Path) -> set[str]:
    """Ids of the queries of a memory that have ground truth."""
    with Memory.open(folder) as memory:
        found = memory.cypher(
            "MATCH (q:Query)-[:GENERATES]->(t:Thinking) WHERE t.reward IS NOT NULL RETURN DISTINCT q.id"
        )
        return {row[0] for row in found.rows}


def train_model(folder: Path, seed: int) -> str:
    """Train on every label of the memory and return the model's id; the script itself measures the model."""
    with Memory.open(folder) as memory:
        return train_memory(memory, budget=1.0, seed=seed, device="cpu").model


class Service:
    """`memstore serve` on a memory, at the same address at every start, with its log in a file."""

    def __init__(self, memory: Path, log: Path, settings: Sequence[object]) -> None:
        """Prepare a service; `settings` are options of `memstore serve`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = str(Path(sys.executable).with_name("memstore"))
        options = ["--port", str(port), "--device", "cpu", *map(str, settings)]
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
