"""Empty memories, huge queries and texts, and a service that restarts under an open page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_rl.inspector.source import MemorySource
from memstore_rl.inspector.views.group import COLUMNS, PAGE, SHOWN, TEXT, group_sheet
from memstore_rl.inspector.views.overview import overview
from memstore_rl.inspector.views.rollout import rollout_page, whole_text
from memstore_schema.columns import NodeLabel

from .conftest import serving


@contextmanager
def memory_of(folder: Path, rows: list[dict[str, Any]]) -> Iterator[Memory]:
    """A memory of these rows."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
        if rows:
            memory.ingest([folder / "rows.jsonl"])
        yield memory


def test_an_empty_memory(tmp_path: Path) -> None:
    with memory_of(tmp_path, []) as memory:
        assert overview(MemorySource(memory)).counts["queries"] == 0
        with serving(MemorySource(memory)) as address, httpx.Client(base_url=address) as web:
            assert "The memory is empty" in web.get("/").text
            assert "No query matches" in web.get("/queries").text


def test_a_query_with_many_rollouts_and_answers(tmp_path: Path) -> None:
    rows = [
        {"query": "How many?", "thinking": f"maybe {n}", "answer": str(n if n < 30 else 1000), "domain": "math"}
        for n in range(130)
    ]
    with memory_of(tmp_path, rows) as memory:
        source, query = MemorySource(memory), memory.graph.nodes(NodeLabel.QUERY, ["id"])["id"][0].as_py()
        sheet = group_sheet(source, query)
        assert (sheet.rollouts, len(sheet.columns), len(sheet.others)) == (130, COLUMNS, 31 - COLUMNS)
        assert sheet.columns[0].votes == 100
        assert len(sheet.columns[0].rollouts) == SHOWN
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            [column] = group_sheet(source, query, answer=sheet.columns[0].name, after=after).columns
            assert len(column.rollouts) <= PAGE
            seen += [cell.id for cell in column.rollouts]
            after = column.after
        assert len(seen) == len(set(seen)) == 100
        with serving(source) as address:
            assert "Other answers" in httpx.get(f"{address}/query/{query}").text


def test_a_long_text_is_cut_with_a_link_to_the_whole(tmp_path: Path) -> None:
    long = "word " * 200_000
    row = {"query": "Long?", "thinking": long, "answer": "x" * 300_000, "domain": "other"}
    with memory_of(tmp_path, [row]) as memory:
        source = MemorySource(memory)
        query, rollout = (
            memory.graph.nodes(kind, ["id"])["id"][0].as_py() for kind in (NodeLabel.QUERY, NodeLabel.THINKING)
        )
        [column] = group_sheet(source, query).columns
        assert len(column.rollouts[0].text.text) == TEXT
        page = rollout_page(source, rollout)
        assert page.thinking.is_cut
        assert page.written.is_cut
        assert len(whole_text(source, rollout)) > 1_200_000
        with serving(source) as address, httpx.Client(base_url=address) as web:
            assert len(web.get(f"/query/{query}").content) < 200_000
            assert f"/inspect/rollout/{rollout}/text" in web.get(f"/rollout/{rollout}").text


def test_a_session_outlives_a_restart(looked_at: Memory) -> None:
    with serving(MemorySource(looked_at), "a-token") as address:
        cookie = httpx.post(f"{address}/login", data={"token": "a-token"}).headers["set-cookie"].split(";")[0]
    for token, status in (("a-token", 200), ("another-token", 303)):
        with serving(MemorySource(looked_at), token) as address:
            assert httpx.get(f"{address}/queries", headers={"cookie": cookie}).status_code == status
