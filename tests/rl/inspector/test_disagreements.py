"""Disagreements of a model with labels, votes, another model, and of steps with each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from memstore.errors import InputError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_rl.inspector import disagreements as module
from memstore_rl.inspector.disagreements import Disagreements, find_disagreements
from memstore_rl.inspector.source import MemorySource, SnapshotSource, Source
from memstore_rl.inspector.views.disagreements import DisagreementLine, disagreement_page
from memstore_schema.columns import EdgeType, NodeLabel

from .conftest import serving
from .test_pages_in_a_browser import Tab

ANSWERS = {"first": "AABAB", "second": "AABBB", "third": "AAAAA"}
"""The answers to each query; the first three are of step 0."""
NEW, OLD = "m-00000000000000bb", "m-00000000000000aa"
PROBABILITY = {NEW: {"A": 0.2, "B": 0.9}, OLD: {"A": 0.6, "B": 0.9}}


def rows() -> list[dict[str, Any]]:
    return [
        {
            "query": f"The {name} question?",
            "thinking": f"attempt {sample}",
            "answer": answer,
            "domain": "qa",
            "policy": "small",
            "run": "run",
            "step": 10 * (sample > 2),
            "sample_index": sample,
            "reward": float(answer == "A") if name == "third" else None,
        }
        for name, answers in ANSWERS.items()
        for sample, answer in enumerate(answers)
    ]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    folder = tmp_path_factory.mktemp("disagreements")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as opened:
        opened.ingest([folder / "rows.jsonl"])
        ids = opened.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
        leads = opened.graph.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, ids, columns=["text"])
        text_of = dict(zip(leads["source_id"].to_pylist(), leads["text"].to_pylist(), strict=True))
        for version, model in enumerate((OLD, NEW), start=1):
            p = [PROBABILITY[model][text_of[name]] for name in ids]
            scores = pa.table({"id": ids, "probability": p, "reward": p, "source": ["predicted"] * len(ids)})
            node = {"id": model, "version": version, "snapshot": "s-1", "metrics": "{}", "path": f"models/{model}"}
            opened.record_scores(ScoreBatch(node, scores))
        yield opened


@pytest.fixture(params=["memory", "snapshot"])
def source(request: pytest.FixtureRequest, memory: Memory) -> Source:
    return MemorySource(memory) if request.param == "memory" else SnapshotSource(memory.snapshot(), "a snapshot")


def lines(source: Source, kind: Any) -> list[DisagreementLine]:
    return list(disagreement_page(source, find_disagreements(source), kind).lines)


def test_each_kind_with_its_reason(source: Source) -> None:
    found = find_disagreements(source)
    assert (found.model, found.other) == (NEW, OLD)
    [truth] = lines(source, "truth")
    assert (truth.text, truth.reason) == ("The third question?", "'a' is right, and the model gives it 0.20")
    assert truth.gap == pytest.approx(0.8)
    [votes] = lines(source, "votes")
    assert votes.reason == "the model prefers 'b' (0.90) to the most frequent 'a' (0.20)"
    assert (votes.text, votes.rollouts) == ("The first question?", 5)
    assert [line.reason for line in lines(source, "model")] == [f"'a': 0.20 by {NEW}, 0.60 by {OLD}"] * 3
    [step] = lines(source, "step")
    assert step.reason == "small, run run: 'a' leads at step 0 (67%), 'b' at step 10 (100%)"
    assert step.gap == pytest.approx(2 / 3)


def test_lists_are_sorted_bounded_and_paged(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource(memory)
    found = find_disagreements(source)
    for order in ("gap", "rollouts", "query"):
        first = disagreement_page(source, found, "model", order, limit=2)  # type: ignore[arg-type]
        assert first.after is not None
        second = disagreement_page(source, found, "model", order, first.after, limit=2)  # type: ignore[arg-type]
        assert second.after is None
        assert len({line.query for line in (*first.lines, *second.lines)}) == 3
    with pytest.raises(InputError, match="first page"):
        disagreement_page(source, found, "model", "gap", "x")
    monkeypatch.setattr(module, "KEPT", 1)
    kept = disagreement_page(source, find_disagreements(source), "model")
    assert (kept.total, kept.kept) == (3, 1)


def test_memories_without_scores_say_so(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        source = MemorySource(memory)
        assert find_disagreements(source).model is None
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row | {"step": None}) + "\n" for row in rows()))
        memory.ingest([tmp_path / "rows.jsonl"])
        found: Disagreements = find_disagreements(source)
        assert "memstore score" in disagreement_page(source, found, "truth").nothing
        assert "No policy" in disagreement_page(source, found, "step").nothing


def test_the_page_in_a_browser(browser: Any, memory: Memory) -> None:
    with serving(MemorySource(memory)) as address:
        assert httpx.get(f"{address}/disagreements?kind=model&after=x").status_code == 400
        for scheme, width in (("light", 1280), ("dark", 360)):
            context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
            tab = Tab(context, address)
            for kind in ("truth", "votes", "model", "step"):
                tab.open(f"/disagreements?kind={kind}&sort=rollouts")
                tab.check()
            tab.page.click("text=The second question?")
            tab.page.wait_for_selector(".sheet")
            context.close()
