"""A service that notes what a hook sends, and its address in the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memstore_rl.trainers.conformance.service import NotingService


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[NotingService]:
    with NotingService() as running:
        monkeypatch.setenv("MEMSTORE_REWARD_ENDPOINT", running.address)
        monkeypatch.setenv("MEMSTORE_REWARD_DEADLINE_S", "60")
        yield running
