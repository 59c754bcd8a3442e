"""A small memory with scores, evidence and hostile texts, its pages on a server, and a browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import uvicorn
from pydantic import SecretStr

from memstore.graph.protocol import InfluenceUpdate, ScoreBatch
from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_rl.inspector.serve import inspector_app
from memstore_rl.inspector.source import MemorySource, SnapshotSource, Source
from memstore_rl.service.protocol import server_config
from memstore_schema.columns import EdgeType, NodeLabel

MODEL = "m-00000000000000aa"
SCRIPT = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
"""What a model might write to take over the page."""
FORMULA = "so $x^2 + \\frac{1}{2} = 5$ and $$\\sum_{i=1}^{3} i = 6$$"
BROKEN = "broken $\\frac{1}{$ mathematics"
Serve = Callable[..., AbstractContextManager[str]]


def rows() -> list[dict[str, Any]]:
    """Five queries with six rollouts each in two steps; one is hostile and one is written from right to left."""
    texts = [f"Mia has {n} apples and buys {n} more. How many has she? {FORMULA if n == 3 else ''}" for n in (3, 4, 5)]
    texts += [f"{SCRIPT} What is 1 + 1?", "كم يساوي ٢ + ٢؟"]
    right = ["6", "8", "10", "2", "4"]
    return [
        {
            "query": text,
            "query_id": f"key-{number}{SCRIPT if number == 3 else ''}",
            "dataset": "apples" if number < 3 else f"odd {SCRIPT}",
            "domain": "math" if number != 3 else "other",
            "thinking": f"We add both.\nThe sum is {answer}.\n{BROKEN if sample == 1 else 'Done'} {sample}\n"
            f"```python\nprint({answer})\n```\n{SCRIPT if number == 3 else ''}",
            "answer": f"{answer}{SCRIPT if number == 3 else ''}",
            "policy": f"policy {SCRIPT}" if number == 3 else "small",
            "run": "first",
            "step": sample % 2,
            "sample_index": sample,
            "reward": float(answer == right[number]) if number in (0, 3) else None,
        }
        for number, text in enumerate(texts)
        for sample, answer in enumerate([right[number]] * 4 + ["7", "9"])
    ]


@pytest.fixture(scope="session")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """The memory, open. Do not modify it."""
    folder = tmp_path_factory.mktemp("inspected")
    with make_memory(folder) as memory:
        yield memory


@contextmanager
def make_memory(folder: Path) -> Iterator[Memory]:
    """A memory of `rows` with a model's scores and the evidence of each first rollout."""
    file = folder / "rollouts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([file])
        ids = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
        scores = pa.table(
            {"id": ids, "probability": [0.9] * len(ids), "reward": [0.9] * len(ids), "source": ["predicted"] * len(ids)}
        )
        model = {"id": MODEL, "version": 1, "snapshot": "s-1", "metrics": '{"auc": 0.91}', "path": f"models/{MODEL}"}
        memory.record_scores(ScoreBatch(model, scores))
        write_evidence(memory, ids)
        yield memory


def write_evidence(memory: Memory, ids: list[str]) -> None:
    """Each rollout's score was moved by its query, its answer and the model."""
    graph = memory.graph
    leads = graph.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, ids)
    generates = graph.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, ids, by="target")

    def moved(sources: Any, targets: Any, weight: float) -> pa.Table:
        figures = {"weight": [weight] * len(sources), "effect": [weight / 10] * len(sources)}
        return pa.table({"source": sources, "target": targets, **figures})

    tables = {
        NodeLabel.ANSWER: moved(leads["source_id"], leads["target_id"], 1.5),
        NodeLabel.QUERY: moved(generates["target_id"], generates["source_id"], -0.25),
        NodeLabel.REWARD_MODEL: moved(pa.array(ids), pa.array([MODEL] * len(ids)), 0.5),
    }
    graph.replace_influences(InfluenceUpdate(MODEL, ids, tables))


@pytest.fixture(scope="session", params=["memory", "snapshot"])
def source(request: pytest.FixtureRequest, looked_at: Memory) -> Source:
    """The memory as pages see it, and a snapshot of it."""
    if request.param == "memory":
        return MemorySource(looked_at)
    return SnapshotSource(looked_at.snapshot(), "a snapshot")


def query_with(memory: Memory, text: str) -> str:
    """Id of the query whose text has these words."""
    table = memory.graph.nodes(NodeLabel.QUERY, ["id", "text"])
    return next(row["id"] for row in table.to_pylist() if text in row["text"])


def more_rollouts(memory: Memory, answer: str) -> None:
    """Ingest ten rollouts that give an answer to the second query."""
    made = [rows()[6] | {"answer": answer, "thinking": f"Guess {n}.", "sample_index": 10 + n} for n in range(10)]
    file = memory.folder / f"more_{answer}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    memory.ingest([file])


def many_answers(memory: Memory, count: int, **changed: Any) -> str:
    """Ingest a query with so many answers, each of one rollout, and one rollout without; returns its id."""
    row = rows()[6] | {"query": f"Which of {count}?", "query_id": f"many-{count}", "reward": None} | changed
    made = [row | {"answer": str(100 + n), "thinking": f"Guess {n}.", "sample_index": n} for n in range(count)]
    made.append(row | {"answer": "", "thinking": "I do not know.", "sample_index": count})
    file = memory.folder / f"many_{count}.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in made), encoding="utf-8")
    memory.ingest([file])
    return query_with(memory, row["query"])


@contextmanager
def serving(source: Source, token: str | None = None, app: Any = None) -> Iterator[str]:
    """Serve the pages of a source on loopback; yields their address without a slash at its end."""
    app = app or inspector_app(source, token=SecretStr(token) if token else None)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/inspect"
    finally:
        server.should_exit = True
        thread.join(200)


@pytest.fixture(scope="session")
def pages(looked_at: Memory) -> Iterator[str]:
    """Address of the pages of the memory."""
    with serving(MemorySource(looked_at)) as address:
        yield address


@pytest.fixture
def web(pages: str) -> Iterator[httpx.Client]:
    """A client of the pages."""
    with httpx.Client(base_url=pages) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, which is skipped where it is not installed, but not in CI.

    It is closed with its module: while Playwright runs, its thread has a running event loop, and `asyncio.run` of other
    tests in that thread would fail.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        reason = "no Chromium; install it with: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()
