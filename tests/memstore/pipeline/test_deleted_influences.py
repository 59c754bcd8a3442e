"""A score that a deleted rollout influenced loses its explanation, since the rest would not add up."""

from __future__ import annotations

from pathlib import Path

from memstore.memory import Memory
from memstore.testing.conformance.graph_blocks import make_influences, make_scores
from memstore.testing.conformance.memory_fixtures import write_rollouts
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_schema.columns import EdgeType, NodeLabel


def influences(memory: Memory) -> list[tuple[str, str]]:
    found = memory.graph.edges(EdgeType.INFLUENCED_BY, NodeLabel.THINKING, NodeLabel.THINKING)
    ids = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
    return [(ids[source], ids[target]) for source, target in zip(found.source, found.target, strict=True)]


def test_only_explanations_that_lost_a_node_are_deleted(tmp_path: Path) -> None:
    files = [write_rollouts(tmp_path / f"{run}.jsonl", range(4), run=run) for run in ("first", "second")]
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest(files)
        nodes = memory.graph.nodes(NodeLabel.THINKING, ["id", "run"]).to_pylist()
        kept, gone = ([node["id"] for node in nodes if node["run"] == run] for run in ("first", "second"))
        memory.record_scores(make_scores("m1", 1, dict.fromkeys(kept[:3], 0.5)))
        partly, wholly = {kept[1]: 0.5, gone[0]: 0.25}, {kept[0]: 0.125}
        memory.graph.replace_influences(make_influences("m1", {kept[0]: partly, kept[2]: wholly}))
        assert len(influences(memory)) == 3
        memory.delete(run="second")
        assert influences(memory) == [(kept[2], kept[0])]
        assert memory.verify().ok
