"""The timeline of a query: shares, rewards, flips and extinct answers, as the named query `history` counts them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memstore.memory import Memory
from memstore_rl.inspector.charts import SERIES
from memstore_rl.inspector.pages.timeline import POINTS
from memstore_rl.inspector.source import MemorySource, Source
from memstore_rl.inspector.texts import one_line
from memstore_rl.inspector.views import timeline as view
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.timeline import ANSWER_TEXT, ANSWERS, Flip, Series, Timeline, timeline
from memstore_schema.columns import NodeLabel
from memstore_schema.queries import named_queries

from .conftest import query_with, serving
from .test_unusual_memories import memory_of

STEPS: dict[int | None, str] = {None: "9", 1: "44578", 2: "4555", 3: "--", 4: "555", 10: "67"}
"""Answers by step; - is a rollout without one."""


def changing() -> list[dict[str, Any]]:
    """Rollouts whose majority changes from step to step."""
    return [
        {
            "query": "How many?",
            "thinking": f"{step} {at}",
            "answer": None if answer == "-" else answer,
            "reward": float(answer == "5") if step in (1, 2) else None,
            "policy": "small",
            "run": "first",
            "step": step,
            "domain": "math",
        }
        for step, answers in STEPS.items()
        for at, answer in enumerate(answers)
    ]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """A query of three policies, two of them without steps."""
    still = [row | {"policy": "still", "run": None, "step": None} for row in changing()[:3]]
    plain = [{"query": "How many?", "thinking": f"plain {at}", "answer": "5", "domain": "math"} for at in range(2)]
    with memory_of(tmp_path_factory.mktemp("changed"), [*changing(), *still, *plain]) as memory:
        yield memory


def only_query(memory: Memory) -> str:
    return str(memory.graph.nodes(NodeLabel.QUERY, ["id"])["id"][0].as_py())


def texts(found: Timeline) -> list[str]:
    return [answer.text for answer in found.answers]


def test_shares_rewards_flips_and_extinct_answers(changed: Memory) -> None:
    found = timeline(MemorySource(changed), only_query(changed))
    assert found.chosen == Series("small", "first", 17, 5)
    others = [(one.policy, one.run, one.steps) for one in found.series[1:]]
    assert others == [("still", "rows", 0), ("unknown", "rows", 0)]
    assert texts(found) == ["5", "4", "", "7", "6", "8", "9"]
    assert [moment.step for moment in found.moments] == [None, 1, 2, 3, 4, 10]
    assert [moment.shares[:2] for moment in found.stepped] == [(0.2, 0.4), (0.75, 0.25), (0, 0), (1, 0), (0, 0)]
    assert [moment.reward for moment in found.stepped] == [0.2, 0.75, None, None, None]
    assert found.flips == (Flip(2, "4", "5"), Flip(10, "5", "6"))  # of two answers with as many votes, the first
    assert {answer.text: (answer.first, answer.died) for answer in found.answers} == {
        "5": (1, 10), "4": (1, 3), "": (3, 4), "7": (1, None), "6": (10, None), "8": (1, 2), "9": (None, None),
    }  # fmt: skip
    assert found.answers[0].verdict == 1.0


def test_the_named_query_history_counts_alike(changed: Memory, looked_at: Memory) -> None:
    history = next(query for query in named_queries() if query.name == "history")
    for memory, query, series in (
        (changed, only_query(changed), ("small", "first")),
        (looked_at, query_with(looked_at, "Mia has 3"), ("small", "first")),
        (looked_at, query_with(looked_at, "1 + 1"), None),
    ):
        found = timeline(MemorySource(memory), query, series)
        assert found.chosen is not None
        rows = memory.cypher(history.text, {**history.parameters, "query": query}).rows
        expected = [row[2:] for row in rows if row[1] == found.chosen.run]
        assert len(expected) == len(found.moments)
        for moment, (step, rollouts, answers, top, labelled, right, predicted) in zip(
            found.moments, expected, strict=True
        ):
            assert (moment.step, moment.rollouts, moment.answers) == (step, rollouts, answers)
            assert (moment.top_text, moment.labelled) == (one_line(top, ANSWER_TEXT), labelled)
            assert (moment.reward, moment.predicted) == pytest.approx((right, predicted))


def test_a_snapshot_has_the_same_timeline(source: Source, looked_at: Memory) -> None:
    query = query_with(looked_at, "Mia has 4")
    found = timeline(source, query)
    assert found == timeline(MemorySource(looked_at), query)
    assert [moment.predicted for moment in found.moments] == pytest.approx([0.9, 0.9])
    assert found.flips == ()


def test_what_is_not_there(changed: Memory, tmp_path: Path) -> None:
    source = MemorySource(changed)
    with pytest.raises(NotThere, match="no query q-1"):
        timeline(source, "q-1")
    with pytest.raises(NotThere, match="this policy and run"):
        timeline(source, only_query(changed), ("small", "second"))


def test_pages_of_the_timeline(changed: Memory) -> None:
    query = only_query(changed)
    with serving(MemorySource(changed)) as address, httpx.Client(base_url=f"{address}/query/{query}") as web:
        page = web.get("/timeline").text
        assert "The majority answer changed 2 times" in page
        assert page.count("<svg") == 2
        still = web.get("/timeline", params={"policy": "still", "run": "rows"}).text
        assert "name no step" in still
        assert "<svg" not in still
        assert "2 rollouts in 0 steps" in web.get("/timeline", params={"policy": "unknown", "run": "rows"}).text
        assert web.get("/timeline", params={"policy": "nobody"}).status_code == 404
        assert "&#39;x&#39; is not a step" in web.get("/timeline", params={"after": "x"}).text
        assert "There are no later steps" in web.get("/timeline", params={"after": "10"}).text


def test_many_steps_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "query": "Many?",
            "thinking": f"t {step}",
            "answer": str(step % 20),
            "step": step,
            "run": "r",
            "domain": "math",
        }
        for step in range(2 * POINTS + 1)
    ]
    monkeypatch.setattr(view, "STEPS", 50)
    with memory_of(tmp_path, rows) as memory:
        source, query = MemorySource(memory), only_query(memory)
        found = timeline(source, query)
        assert (len(found.answers), found.others, ANSWERS + 1) == (ANSWERS, 12, SERIES)
        assert all(sum(moment.shares) == pytest.approx(1) for moment in found.moments)
        assert len(found.flips) == 2 * POINTS
        with serving(source) as address, httpx.Client(base_url=address) as web:
            following, pages, seen = f"/query/{query}/timeline", 0, 0
            while following:
                page = web.get(following).text
                seen, pages = seen + page.count('<tr><th scope="row"><a'), pages + 1
                assert len(page) < 200_000
                link = re.search(r'rel="next" href="/inspect([^"]+)"', page)
                following = html.unescape(link[1]) if link else ""
            assert (seen, pages) == (2 * POINTS + 1, 7)
