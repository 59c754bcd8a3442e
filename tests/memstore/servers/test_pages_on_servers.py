"""The pages of a memory on Neo4j and Milvus show what those of its snapshot show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memstore.graph.query_filter import QueryFilter
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.inspector.source import MemorySource, SnapshotSource
from memstore_rl.inspector.views.cypher import Asked, cypher_page
from memstore_rl.inspector.views.group import group_sheet
from memstore_rl.inspector.views.overview import overview
from memstore_rl.inspector.views.propagation import propagation
from memstore_rl.inspector.views.queries import query_list
from memstore_rl.inspector.views.timeline import timeline

pytestmark = pytest.mark.usefixtures("profiles")


def test_views(tmp_path: Path) -> None:
    rows = [
        {
            "query": query,
            "query_id": f"k{at}",
            "dataset": "sums",
            "domain": "math",
            "answer": answer,
            "thinking": answer,
        }
        for at, query in enumerate(("How much is 2 and 2?", "How much is 3 and 3?"))
        for answer in ("4", "5", "4.0")
    ]
    rows[0]["reward"] = 1.0
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open("one", create=True, embedder=HashEmbedder(16), settings=Settings()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        server, snapshot = MemorySource(memory), SnapshotSource(memory.snapshot(), "a snapshot")
        assert overview(server).datasets == overview(snapshot).datasets
        for wanted in (
            QueryFilter(),
            QueryFilter("HOW much is 3", dataset="sums", domain="math"),
            QueryFilter("k1", "key"),
            QueryFilter("5", "answer"),
            QueryFilter(labels="some"),
            QueryFilter(labels="none"),
        ):
            found = query_list(server, wanted)
            assert found == query_list(snapshot, wanted)
            assert found.lines
        for line in query_list(server, QueryFilter()).lines:
            assert group_sheet(server, line.id) == group_sheet(snapshot, line.id)
            assert timeline(server, line.id) == timeline(snapshot, line.id)
            drawn = propagation(server, [line.id])
            assert drawn.drawing == propagation(snapshot, [line.id]).drawing
            named = {name for row in memory.cypher(drawn.cypher).rows for name in (row[0], row[2])}
            assert named == {node.id for node in drawn.drawing.nodes}
        assert cypher_page(server, Asked(named="votes", draw=True)).rows
