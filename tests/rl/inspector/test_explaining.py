"""Scores that are explained from the pages: how many at once."""

from __future__ import annotations

import re
import threading

import httpx
import pytest

from memstore.memory import Memory
from memstore_rl.inspector.explaining import AT_ONCE, Explainer, TooMany
from memstore_rl.inspector.jobs import Jobs
from memstore_rl.inspector.source import MemorySource
from memstore_schema.columns import NodeLabel

from .conftest import serving


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Explanations wait for it."""
    opened = threading.Event()

    def explain(_: Explainer, __: str) -> str:
        opened.wait(200)
        return "explained"

    monkeypatch.setattr(Explainer, "_explain", explain)
    return opened


def test_a_few_scores_are_explained_at_once(gate: threading.Event, looked_at: Memory) -> None:
    jobs = Jobs()
    explainer = Explainer(looked_at, jobs)
    for number in range(AT_ONCE):
        explainer.start(f"t-{number}")
    explainer.start("t-0")  # it is among them
    with pytest.raises(TooMany, match="explained already"):
        explainer.start("t-more")
    assert explainer.state("t-more") is None
    gate.set()
    while jobs.running(""):
        pass
    explainer.start("t-more")
    jobs.close()


def test_the_page_says_that_it_is_too_many(gate: threading.Event, looked_at: Memory) -> None:
    rollouts = looked_at.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()[: AT_ONCE + 1]
    with serving(MemorySource(looked_at)) as address, httpx.Client(base_url=address) as web:
        token = re.search(r'name="csrf" value="([^"]+)"', web.get("/queue").text)
        assert token is not None
        answers = [web.post(f"/rollout/{name}/explain", data={"csrf": token[1]}) for name in rollouts]
        gate.set()
        assert [answer.status_code for answer in answers] == [303] * AT_ONCE + [503]
        assert f"{AT_ONCE} scores are being explained already" in answers[-1].text


def test_the_page_says_how_long_it_takes(
    gate: threading.Event, looked_at: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memstore_rl.inspector.views.rollout.evidence_of", lambda *_: {})
    first, second = looked_at.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()[:2]
    with serving(MemorySource(looked_at)) as address, httpx.Client(base_url=address) as web:
        page = web.get(f"/rollout/{first}").text
        assert "It reads all labelled queries" in page
        token = re.search(r'name="csrf" value="([^"]+)"', page)
        assert token is not None
        web.post(f"/rollout/{first}/explain", data={"csrf": token[1]})
        assert "are being measured. It reads all labelled queries" in web.get(f"/rollout/{first}").text
        gate.set()
        while "are being measured" in web.get(f"/rollout/{first}").text:
            pass
        assert "The last one here took 1 s." in web.get(f"/rollout/{second}").text
