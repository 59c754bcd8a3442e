"""The pages of a memory on Neo4j and Milvus show what those of its snapshot show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from memstore.graph.query_filter import QueryFilter
from memstore.labels.answers import AnswerVerdict
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_cli.main import run
from memstore_gnn.evaluation.compare import evaluate_memory
from memstore_gnn.evaluation.curves import CurveCollector
from memstore_gnn.evaluation.kept import keep_comparison, place_of
from memstore_gnn.verbs import score_memory_rollouts, train_memory
from memstore_rl.inspector.disagreements import find_disagreements
from memstore_rl.inspector.source import MemorySource, SnapshotSource
from memstore_rl.inspector.views.cypher import Asked, cypher_page
from memstore_rl.inspector.views.evaluation import evaluation_page
from memstore_rl.inspector.views.group import group_sheet
from memstore_rl.inspector.views.overview import overview
from memstore_rl.inspector.views.propagation import propagation
from memstore_rl.inspector.views.queries import query_list
from memstore_rl.inspector.views.stored_training import stored_training
from memstore_rl.inspector.views.timeline import timeline
from memstore_schema.columns import NodeLabel
from tests.rl.inspector.conftest import serving

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


def sums() -> list[dict[str, Any]]:
    """Twelve sums, each tried twice at two steps; the first nine are labelled."""
    return [
        {
            "query": f"{number} + 7?",
            "query_id": f"sum-{number}",
            "dataset": "sums",
            "domain": "math",
            "policy": "p",
            "run": "grpo",
            "step": step,
            "thinking": f"try {sample} at {step}: {number + 7 + (sample + step * number) % 2}",
            "answer": str(number + 7 + (sample + step * number) % 2),
            "sample_index": sample,
            "reward": float((sample + step * number) % 2 == 0) if number < 9 else None,
        }
        for number in range(12)
        for step in (1, 2)
        for sample in range(4)
    ]


SCORED = """MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[s:SCORED_BY]->(:RewardModel), (t)-[:LEADS_TO]->(a:Answer)
WHERE q.text = $query RETURN a.id AS answer, s.probability AS probability LIMIT 1"""


def test_pages_of_a_trained_memory(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums()))
    with Memory.open("one", create=True, embedder=HashEmbedder(16), settings=Settings()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        train_memory(memory, epochs=2, device="cpu")
        score_memory_rollouts(memory)
        [(answer, probability)] = memory.cypher(SCORED, {"query": "11 + 7?"}).rows
        memory.label_answers([AnswerVerdict("sum-11", answer, float(probability < 0.5))], by="Ana")
        collector, place = CurveCollector([0.5]), place_of(memory)
        rows = evaluate_memory(memory, predictors=["vote_share"], budgets=[0.5], seeds=[0], keep=collector.add)
        assert isinstance(place, Path)
        keep_comparison(place, rows, collector.curves())
        server, snapshot = MemorySource(memory), SnapshotSource(memory.snapshot(), "a snapshot", memory.folder)
        stored = stored_training(server)
        assert stored == stored_training(snapshot)
        assert [(run.run, run.rollouts, len(run.rows)) for run in stored.runs] == [("grpo", 96, 2)]
        shown, same = evaluation_page(server), evaluation_page(snapshot)
        assert (shown.model, shown.lines, shown.problem) == (same.model, same.lines, None)
        assert shown.lines
        found = find_disagreements(server)
        assert found == find_disagreements(snapshot)
        query = memory.graph.nodes(NodeLabel.QUERY, ["id"])["id"][0].as_py()
        check_pages(server, query)
    for words in (["sum-3", "sheet.html"], ["--disagreements", "disagreements.html"]):
        assert run(["export", "html", *words, "--memory", "one"]) == 0, capfd.readouterr().err
    sheet = Path("sheet.html").read_text()
    assert "3 + 7?" in sheet
    assert "10 + 7?" not in sheet
    assert "11 + 7?" in Path("disagreements.html").read_text()


def check_pages(source: MemorySource, query: str) -> None:
    """Open each page that the first page links to, those of a query, and a rollout."""
    with serving(source) as address, httpx.Client(base_url=address, timeout=200) as web:
        paths = re.findall(r'href="/inspect(/\w*)"', web.get("/").text)
        assert {"/training", "/evaluation", "/disagreements", "/cypher", "/queue"} <= set(paths)
        sheet = web.get(f"/query/{query}").text
        rollout = re.findall(r'href="/inspect(/rollout/[^"]+)"', sheet)[0]
        paths += [f"/query/{query}/timeline", f"/propagation?node={query}", "/cypher?named=votes&draw=1", rollout]
        for path in dict.fromkeys(paths):
            page = web.get(path)
            assert (page.status_code, page.text.count('role="alert"')) == (200, 0), f"{path}: {page.text}"
        assert "grpo" in web.get("/training").text
        assert 'class="chart"' in web.get("/evaluation").text
