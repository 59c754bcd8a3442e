"""`memstore serve --rescore`: a verdict on the service's pages moves the stored scores of other rollouts."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from memstore.labels.journal import Journal
from memstore.memory import Memory
from memstore_gnn.verbs import score_memory_rollouts, train_memory
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.service.client import RewardClient

from .conftest import ROLLOUTS, UNLABELLED, start

SCORES = (
    "MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[s:SCORED_BY]->(:RewardModel) "
    "RETURN t.id AS rollout, q.id AS query, s.probability AS probability, t.reward AS reward"
)


@pytest.fixture
def trained(memory: Path, tmp_path: Path) -> Path:
    """A copy of the memory with a model, and its scores of the rollouts without a label."""
    copy = tmp_path / "memory"
    shutil.copytree(memory, copy)
    with Memory.open(copy) as opened:
        train_memory(opened, epochs=2, device="cpu")
        score_memory_rollouts(opened, device="cpu")
    return copy


@contextmanager
def serving(*words: str | Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `memstore serve` on a free port; yields its address, and stops it."""
    with start("serve", *words, "--port", "0", "--json") as process:
        try:
            assert process.stdout is not None
            yield json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["endpoint"], process
        finally:
            process.kill()


def test_a_verdict_on_the_pages_of_the_service_moves_other_scores(trained: Path) -> None:
    with (
        serving("--rescore", "--expected", str(ROLLOUTS), "--memory", trained) as (endpoint, process),
        httpx.Client(base_url=f"{endpoint}/inspect", follow_redirects=True, timeout=200) as web,
    ):
        before = scores(web)
        assert len(before) == UNLABELLED * ROLLOUTS
        query = next(iter(before.values()))["query"]
        send(web, "/queue/name", query, name="Ana")
        assert "none of the answers is right" in send(web, "/queue/press", query, key="0").lower()
        with RewardClient(endpoint, deadline_s=200) as client:  # the service answers meanwhile
            assert {reward.source for reward in client.score_group(new_group())} <= {"predicted", "unscored"}
        sentence = rescored(web)
        after = scores(web)
        moved = {name for name in before if after[name]["probability"] != before[name]["probability"]}
        others = {name for name, row in before.items() if row["query"] != query}
        assert moved, sentence
        assert moved <= others, "labelled rollouts keep their scores"
        assert f"Scored again: {len(others)} rollouts of {UNLABELLED - 1} queries" in sentence
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=200)
        assert process.returncode == 0, log
    assert not [line for line in log.splitlines() if json.loads(line)["level"] in ("error", "warning")], log
    with Memory.open(trained) as memory:
        [batch] = Journal(memory.folder).batches()
        assert (batch.by, len(batch.changes)) == ("Ana", ROLLOUTS)
        assert memory.verify().ok


def scores(web: httpx.Client) -> dict[str, dict[str, Any]]:
    """The stored scores, by rollout."""
    rows = web.get("/cypher/result.json", params={"query": SCORES}).json()
    return {row["rollout"]: row for row in rows}


def send(web: httpx.Client, path: str, query: str, **values: str) -> str:
    """Send a form of the page that asks about a query."""
    page = web.get("/queue", params={"query": query}).text
    shown = dict(re.findall(r'type="hidden" name="(csrf|shown|state)" value="([^"]*)"', page))
    return web.post(path, data={**shown, "query": query, **values}).text


def rescored(web: httpx.Client) -> str:
    """What the page says once the rollouts are scored again."""
    deadline = time.monotonic() + 200
    while (state := web.get("/queue/rescored").json())["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return str(state["sentence"])


def new_group() -> Group:
    """Rollouts of a query that the memory does not have."""
    query = RewardQuery("Anna has 900 apples and buys 7 more. How many apples has she?", dataset="sums", domain="math")
    rollouts = [Rollout(thinking=f"900 + 7 = {900 + n}", answer=str(900 + n), policy="new") for n in (7, 7, 8, 9)]
    return Group(query, rollouts)
