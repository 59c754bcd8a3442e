"""A verdict moves the scores of rollouts near it, and a rollout's score is explained when a person asks, both behind
the pages: over a memory with a trained model, and in a browser.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memstore.errors import InputError
from memstore.labels.answers import AnswerVerdict
from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_gnn.verbs import rescore, score_memory_rollouts, train_memory
from memstore_gnn.verbs.rescore import rescore_near
from memstore_rl.inspector.desk import Desk, Outcome
from memstore_rl.inspector.jobs import BUG, Jobs
from memstore_rl.inspector.label_queue import entry_of
from memstore_rl.inspector.rescoring import Rescorer
from memstore_rl.inspector.serve import inspector_app
from memstore_rl.inspector.source import MemorySource
from memstore_schema.columns import EdgeType, NodeLabel

from .conftest import make_memory, serving
from .test_pages_in_a_browser import Tab

QUERIES, LABELLED, SAMPLES = 14, 8, 4
SLOW_MS = 240_000
"""A loaded machine measures the influences on a score in this time at the latest."""


@pytest.fixture(scope="module")
def memory(sample_rows: dict[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """Eight labelled queries and six without labels, with a model trained on them and its scores."""
    folder = tmp_path_factory.mktemp("rescored")
    rows = [
        row if number < LABELLED else row | {"reward": None, "gold": None}
        for number, own in enumerate(list(sample_rows.values())[:QUERIES])
        for row in own[:SAMPLES]
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as opened:
        opened.ingest([folder / "rows.jsonl"])
        train_memory(opened, epochs=2, device="cpu")
        score_memory_rollouts(opened, device="cpu")
        yield opened


def open_queries(memory: Memory) -> dict[str, list[str]]:
    """Rollouts by query, of the queries without a label."""
    rows = memory.graph.nodes(NodeLabel.THINKING, ["id", "reward"]).to_pylist()
    rewards = {row["id"]: row["reward"] for row in rows}
    ids = memory.graph.nodes(NodeLabel.QUERY, ["id"])["id"].to_pylist()
    edges = memory.graph.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, ids).to_pylist()
    found: dict[str, list[str]] = {}
    for edge in edges:
        found.setdefault(edge["source_id"], []).append(edge["target_id"])
    return {name: own for name, own in sorted(found.items()) if all(rewards[one] is None for one in own)}


def scores(memory: Memory) -> dict[str, float]:
    """Stored probability by rollout."""
    ids = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
    ends = EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL
    edges = memory.graph.edges_of(*ends, ids, columns=["probability"]).to_pylist()
    return {edge["source_id"]: edge["probability"] for edge in edges}


def label(memory: Memory, query: str) -> None:
    """Say that no answer of a query is right."""
    memory.label_answers([AnswerVerdict(query, None, 0.0)], by="Ana")


def wait_for(jobs: Jobs) -> None:
    """Wait for the jobs so far."""
    done = threading.Event()

    def last() -> str:
        done.set()
        return ""

    jobs.submit("last", last)
    assert done.wait(SLOW_MS / 1000)


def test_the_scores_are_those_of_score(memory: Memory) -> None:
    query, *others = open_queries(memory)
    own = open_queries(memory)[query]
    label(memory, query)
    before = scores(memory)
    done = rescore_near(memory, [query], labelled=own, device="cpu")
    near = {name for rollouts in open_queries(memory).values() for name in rollouts}
    assert (done.rollouts, done.queries) == (len(near), len(others))
    assert set(done.labelled) == set(own)
    after = scores(memory)
    assert done.mean_change == pytest.approx(sum(abs(after[name] - before[name]) for name in near) / len(near))
    assert done.mean_change > 0, "a label moves its neighbours"
    assert all(after[name] == before[name] for name in set(before) - near), "labelled rollouts keep their scores"
    score_memory_rollouts(memory, device="cpu")
    assert {name: scores(memory)[name] for name in near} == pytest.approx({name: after[name] for name in near})


def test_only_the_nearest_queries_are_scored(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescore, "NEAR", 1)
    query = next(iter(open_queries(memory)))
    assert rescore_near(memory, [query], device="cpu").queries == 2
    monkeypatch.setattr(rescore, "MOST", 1)
    with pytest.raises(InputError, match="run memstore score when you have finished"):
        rescore_near(memory, [query], device="cpu")


def judge(desk: Desk, query: str) -> Outcome:
    """Say that the first answer of a query is wrong."""
    turn = desk.one("ana", query, desk.queue.get())
    assert turn is not None
    return desk.press("ana", "x1", query, turn.shown, by="Ana")


def test_a_verdict_waits_for_nothing(memory: Memory) -> None:
    jobs, go = Jobs(), threading.Event()
    jobs.submit("slow", lambda: str(go.wait(SLOW_MS / 1000)))
    desk = Desk(MemorySource(memory), rescorer=Rescorer(memory, jobs))
    assert desk.rescoring() is None
    first, second, *_ = open_queries(memory)
    assert "labelled" in judge(desk, first).sentence
    assert desk.rescoring() == (True, "Rollouts near it are being scored again.")
    assert "labelled" in judge(desk, second).sentence
    go.set()
    wait_for(jobs)
    running, sentence = desk.rescoring() or (True, "")
    assert not running
    assert "the labelled one and those nearest to it. Probabilities moved by" in sentence
    assert "labelled here: Brier score" in sentence
    for _ in range(2):
        assert "undone" in desk.press("ana", "u", "", by="Ana").sentence
    wait_for(jobs)
    jobs.close()


def test_without_a_usable_model_there_is_a_sentence(tmp_path: Path) -> None:
    with make_memory(tmp_path) as memory:
        jobs = Jobs()
        Rescorer(memory, jobs).note(next(iter(open_queries(memory))), dict)
        wait_for(jobs)
        running, sentence = Rescorer(memory, jobs).in_words() or (True, "")
        assert not running
        assert sentence.startswith("Other rollouts were not scored again: ")
        jobs.close()


def test_a_bug_is_logged_and_the_next_job_runs(caplog: pytest.LogCaptureFixture) -> None:
    jobs = Jobs()
    jobs.submit("broken", lambda: str(1 / 0))
    wait_for(jobs)
    state = jobs.state("broken")
    assert state is not None
    assert (state.running, state.sentence, state.failed) == (False, BUG, True)
    assert "ZeroDivisionError" in caplog.text
    jobs.close()


def test_rescoring_in_a_browser(browser: Any, memory: Memory) -> None:
    source, query = MemorySource(memory), list(open_queries(memory))[-1]
    app = inspector_app(source, queue=[entry_of({"query_id": query})], rescore=True)
    with serving(source, app=app) as address:
        context = browser.new_context()
        tab = Tab(context, address)
        page = tab.open("/queue")
        page.fill("#name", "Ana")
        page.keyboard.press("Enter")
        page.wait_for_selector("#labelling")
        page.wait_for_load_state("load")  # the script that reads the keys has run
        with page.expect_navigation():
            page.keyboard.press("1")
        page.wait_for_selector("#rescored:text('Scored again')", timeout=SLOW_MS)
        page.wait_for_load_state("load")
        tab.check()
        with page.expect_navigation():
            page.keyboard.press("u")
        page.wait_for_selector("#rescored:text('Scored again')", timeout=SLOW_MS)
        context.close()


def test_a_score_is_explained_in_a_browser(browser: Any, memory: Memory) -> None:
    rollout = list(open_queries(memory).values())[-1][0]
    with serving(MemorySource(memory, read_only=True)) as address, httpx.Client(base_url=address) as web:
        text = web.get(f"/rollout/{rollout}").text
        assert "these pages are read-only" in text
        assert "Explain now" not in text
        assert web.post(f"/rollout/{rollout}/explain").status_code == 403
    with serving(MemorySource(memory)) as address:
        assert httpx.post(f"{address}/rollout/{rollout}/explain").status_code == 400, "a form of no session"
        context = browser.new_context()
        tab = Tab(context, address)
        page = tab.open(f"/rollout/{rollout}")
        tab.check()
        page.click("#explain")
        page.wait_for_selector(".evidence, [role=alert]", timeout=SLOW_MS)
        assert page.locator(".evidence tbody tr").count() > 0
        assert page.locator("#explain").count() == 0
        tab.check()
        context.close()
