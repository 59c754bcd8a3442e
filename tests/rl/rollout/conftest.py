"""Engines that lose no time, and what the command says."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from memstore_cli.main import run
from memstore_rl.rollout.endpoint import EndpointEngine
from memstore_rl.rollout.retry_policy import Patience
from memstore_rl.testing.openai_stub import MODEL


class Done(NamedTuple):
    """How a run of the command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def engine() -> Callable[..., EndpointEngine]:
    """Makes an engine with patience for a server that is here, and fails by chance."""

    def make(url: str, model: str = MODEL, **options: Any) -> EndpointEngine:
        patience = Patience(tries=40, timeout_s=100, first_pause_s=0.002, longest_pause_s=0.05)
        return EndpointEngine(url, model, **({"patience": patience, "concurrency": 8} | options))

    return make


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run the command in this process, without settings of memstore in the environment."""
    for key in list(os.environ):
        if key.startswith("MEMSTORE_"):
            monkeypatch.delenv(key)

    def call(*words: object) -> Done:
        capfd.readouterr()
        code = run([str(word) for word in words])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call
