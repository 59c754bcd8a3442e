"""Fixtures: an engine with short retry delays, and the command run in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from memstore.runtime.retry import RetryPolicy
from memstore_cli.main import run
from memstore_rl.rollout.endpoint import EndpointEngine
from memstore_rl.testing.openai_stub import MODEL


class Done(NamedTuple):
    """Exit code and output of the command."""

    code: int
    out: str
    err: str


@pytest.fixture
def engine() -> Callable[..., EndpointEngine]:
    """Creates an engine with many tries and short delays, for a stub server with random faults."""

    def make(url: str, model: str = MODEL, **options: Any) -> EndpointEngine:
        retry_policy = RetryPolicy(attempts=40, first_pause_s=0.002, longest_pause_s=0.05)
        return EndpointEngine(
            url, model, **({"retry_policy": retry_policy, "timeout_s": 100, "concurrency": 8} | options)
        )

    return make


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run the command in this process, without MEMSTORE_* environment variables."""
    for key in list(os.environ):
        if key.startswith("MEMSTORE_"):
            monkeypatch.delenv(key)

    def call(*words: object) -> Done:
        capfd.readouterr()
        code = run([str(word) for word in words])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call
