"""A scorer with predictable rewards, and services over it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from pydantic import SecretStr

from memstore.errors import InputError
from memstore_gnn.verbs.train_apart import train
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.rewards.tasks import VerifiedGroup
from memstore_rl.service.app import make_app
from memstore_rl.service.journal import Journal
from memstore_rl.service.protocol import ConnectionLimits, server_config
from memstore_rl.service.retraining import Retrainer
from memstore_rl.service.service import RewardService
from tests.rl.service.training_services import trained_sums


class LengthScorer:
    """Rewards each rollout with the length of its response; can be paused or made to fail."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.pause_s = 0.0
        self.gate = threading.Event()
        """Scoring waits while this is cleared; initially set."""
        self.gate.set()
        self.broken = self.bug = ""

    def verify(self, groups: Sequence[Group]) -> list[VerifiedGroup]:
        return [VerifiedGroup(cast("Any", group), None, 0.0) for group in groups]

    def score_verified(self, groups: Sequence[VerifiedGroup]) -> list[list[Reward]]:
        return self._score([cast("Group", group.task) for group in groups])

    def mark_recorded(self, groups: Sequence[VerifiedGroup], rewards: Sequence[Sequence[Reward]]) -> None:
        pass

    def _score(self, groups: Sequence[Group]) -> list[list[Reward]]:
        self.batches.append(len(groups))
        time.sleep(self.pause_s)
        self.gate.wait(200)
        if any(group.query.text == self.broken for group in groups):
            raise InputError(f"the query {self.broken!r} cannot be scored")
        if any(group.query.text == self.bug for group in groups):
            raise ZeroDivisionError("a bug")
        return [[self._reward(group, rollout) for rollout in group.rollouts] for group in groups]

    def _reward(self, group: Group, rollout: Rollout) -> Reward:
        size, length = len(group.rollouts), len(rollout.response or "")
        short = group.expected is not None and size < group.expected
        gold = group.query.labelled
        return Reward(
            value=float(length),
            source="ground_truth" if gold else "predicted",
            probability=None if gold else 1 / (1 + length),
            group_size=size,
            short=short,
            model=None if gold else "m1",
            known=False,
            latency_s=0.0,
            by_votes=None if gold else 0.5,
            silent=not gold and size == 1,
        )


@pytest.fixture
def scorer() -> LengthScorer:
    return LengthScorer()


@pytest.fixture
def make_group() -> Callable[..., Group]:
    """Return a factory of groups with responses of given lengths."""

    def make(text: str = "what is 1 + 1?", lengths: Sequence[int] = (3, 5), **options: object) -> Group:
        gold = options.pop("gold", None)
        query = RewardQuery(text, dataset="sums", domain="math", gold=gold)  # type: ignore[arg-type]
        rollouts = [Rollout(response="x" * length, run="run-1", step=1, policy="p") for length in lengths]
        return Group(query, rollouts, **options)  # type: ignore[arg-type]

    return make


Served = Callable[..., "contextlib.AbstractContextManager[str]"]


def info_of(scorer: object) -> dict[str, str]:
    """What `/v1/info` says of the shaping of a scorer that has one."""
    return {"shaping": scorer.shaping.shaping} if isinstance(scorer, GroupScorer) else {}


@pytest.fixture
def served(scorer: LengthScorer, tmp_path: Path) -> Served:
    """Return a context manager that serves the scorer on loopback and yields the address."""

    @contextlib.contextmanager
    def serve(
        *, token: str | None = None, port: int = 0, limits: ConnectionLimits | None = None, **options: int
    ) -> Iterator[str]:
        journal = Journal(tmp_path / "journal.sqlite")
        service = RewardService(scorer, journal, **options)
        app = make_app(
            service, token=SecretStr(token) if token else None, info=lambda: {"model": "m1", **info_of(scorer)}
        )
        listener = socket.create_server(("127.0.0.1", port))
        server = uvicorn.Server(server_config(app, limits, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(200)
            journal.close()

    return serve


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed memory of twelve labelled sums with a model. Do not modify it."""
    return trained_sums(tmp_path_factory.mktemp("sums"))


@pytest.fixture
def folder(sums: Path, tmp_path: Path) -> Path:
    """A copy of that memory."""
    return Path(shutil.copytree(sums, tmp_path / "memory"))


@pytest.fixture
def trains_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings in place run in the retrainer's thread: a process of its own takes seconds to import torch."""
    monkeypatch.setattr(Retrainer, "_work", lambda self, command: train(Path(command[-1])))
