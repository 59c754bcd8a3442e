"""Services in this process that train their reward model, over a memory of sums."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.models.registry import list_models
from memstore_gnn.verbs import train_memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Mode, RewardQuery, Rollout
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.service.app import make_app
from memstore_rl.service.journal import Journal
from memstore_rl.service.protocol import server_config
from memstore_rl.service.recorder import Recorder, RecorderSchedule
from memstore_rl.service.retraining import Retrainer, RetrainSettings
from memstore_rl.service.service import RewardService
from memstore_rl.service.texts import TextVectors

WAIT_S = 200


def group(number: int, step: int, *, gold: bool = True, run: str = "grpo") -> Group:
    """Four attempts at a sum, the first of them right."""
    query = RewardQuery(f"{number} + 7?", dataset="sums", domain="math", gold=str(number + 7) if gold else None)
    answers = [number + 7, number + 8, number + 8 + number % 2, number + 9]
    rollouts = [
        Rollout(thinking=f"try {n} of {step}: {answer}", answer=str(answer), policy="p", run=run, step=step)
        for n, answer in enumerate(answers)
    ]
    return Group(query, rollouts)


def trained_sums(tmp_path: Path) -> Path:
    """Create a memory of twelve labelled sums with a model; return its folder."""
    rows = [
        {
            "query": f"{number} + 7?",
            "dataset": "sums",
            "domain": "math",
            "policy": "p",
            "run": "before",
            "thinking": f"try {sample}: {number + 7 + sample % 2}",
            "answer": str(number + 7 + sample % 2),
            "sample_index": sample,
            "reward": float(not sample % 2),
        }
        for number in range(12)
        for sample in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        train_memory(memory, epochs=2, device="cpu")
    return tmp_path / "memory"


class Served:
    """A service in this process."""

    def __init__(self, memory: Memory, endpoint: str, retrainer: Retrainer, service: RewardService) -> None:
        self.memory, self.endpoint, self.retrainer, self.service = memory, endpoint, retrainer, service

    @property
    def models(self) -> list[str]:
        """Ids of the memory's models, newest first."""
        return [entry.model for entry in list_models(self.memory)]

    def trained(self) -> None:
        """Wait for the training that runs, if one does."""
        if self.retrainer._thread is not None:
            self.retrainer._thread.join(WAIT_S)


@contextlib.contextmanager
def serving(
    folder: Path, *, mode: Mode = "memory", verifier_budget: VerifierBudget | None = None, **settings: Any
) -> Iterator[Served]:
    with contextlib.ExitStack() as held:
        memory = held.enter_context(Memory.open(folder, create=True, embedder=HashEmbedder()))
        texts = TextVectors(memory.embedder, memory.cache)
        scorer = held.enter_context(
            GroupScorer.open(memory, mode=mode, verifier_budget=verifier_budget, device="cpu", embed=texts.embed)
        )
        journal = held.enter_context(contextlib.closing(Journal(folder / "service" / "journal.sqlite")))
        service = RewardService(scorer, journal)
        recorder = Recorder(memory, journal, flush=texts.flush, schedule=RecorderSchedule(interval_s=0.05))
        recorder.start()
        held.callback(recorder.stop, WAIT_S)
        retrainer = Retrainer(
            memory, scorer, folder / "service", service.metrics, journal=journal, recorder=recorder,
            settings=RetrainSettings(device="cpu", **settings),
        )  # fmt: skip
        held.callback(retrainer.stop)
        service.on_groups = retrainer.observe
        app = make_app(
            service,
            info=retrainer.as_info,
            retrain=lambda: retrainer.start().as_json(),
        )
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        server = uvicorn.Server(server_config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        held.callback(thread.join, WAIT_S)
        held.callback(setattr, server, "should_exit", True)
        yield Served(memory, f"http://127.0.0.1:{listener.getsockname()[1]}", retrainer, service)
