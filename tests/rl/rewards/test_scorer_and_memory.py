"""GroupScorer over a memory: snapshots and files score like the memory, and `refresh` reads it again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import EmbedderError
from memstore.memory import Memory
from memstore.snapshots.files import save_snapshot
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.models.registry import model_folder
from memstore_gnn.verbs import score_file
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.memory_model import MemoryModel
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.verifiers import standard_verifiers
from memstore_rl.verifiers.stored_golds import judge_of


@pytest.fixture(scope="module")
def scorer(trained_memory: Memory) -> Iterator[GroupScorer]:
    with GroupScorer.open(trained_memory, expected=8) as opened:
        yield opened


def test_files_score_like_the_memory(
    scorer: GroupScorer, trained_memory: Memory, groups: list[Group], tmp_path: Path
) -> None:
    save_snapshot(trained_memory.snapshot(), tmp_path / "snapshot")
    model = MemoryModel.of_files(tmp_path / "snapshot", model_folder(trained_memory), device="cpu")
    with GroupScorer(model, expected=8) as other:
        scored = other.score_groups(groups[34:46])
    for ours, theirs in zip(scorer.score_groups(groups[34:46]), scored, strict=True):
        assert [r.value for r in theirs] == pytest.approx([r.value for r in ours], abs=1e-4)
    with pytest.raises(EmbedderError, match="MEMSTORE_EMBEDDER"):
        MemoryModel.of_files(tmp_path / "snapshot", model_folder(trained_memory), embedder=HashEmbedder())


def test_score_file_matches_score_groups(
    scorer: GroupScorer, trained_memory: Memory, sample_rows: dict[str, Any], tmp_path: Path
) -> None:
    """Rollouts of two steps, for stored and for new queries."""
    file, output = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    sent: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in (row for rows in list(sample_rows.values())[34:46] for row in rows):
        sent.setdefault((row["query_id"], row["step"]), []).append(row)
    file.write_text("".join(json.dumps(row) + "\n" for rows in sent.values() for row in rows), encoding="utf-8")
    with closing(standard_verifiers()) as verifiers:
        score_file(trained_memory, file, output=output, judge=judge_of(verifiers), device="cpu")
    written = {
        (line["query_id"], line["step"], line["sample_index"]): (line["reward"], line["source"])
        for line in map(json.loads, output.read_text(encoding="utf-8").splitlines())
    }
    keys = ("response", "policy", "run", "step", "sample_index")
    groups = [
        Group(
            RewardQuery(rows[0]["query"], dataset=rows[0]["dataset"], key=rows[0]["query_id"], domain="math"),
            [Rollout(**{key: row[key] for key in keys}) for row in rows],
        )
        for rows in sent.values()
    ]
    assert len(groups) == 24
    for (query, step), rows, rewards in zip(sent, sent.values(), scorer.score_groups(groups), strict=True):
        ours = [written[query, step, row["sample_index"]] for row in rows]
        assert [reward.value for reward in rewards] == pytest.approx([value for value, _ in ours], abs=1e-5)
        assert [reward.source for reward in rewards] == [source for _, source in ours]
    assert {source for _, source in written.values()} == {"remembered", "predicted"}


def test_refresh_reads_new_rollouts(trained_folder: Path, groups: list[Group], tmp_path: Path) -> None:
    shutil.copytree(trained_folder, tmp_path / "memory", ignore=shutil.ignore_patterns("lock", "*.lock"))
    rows = tmp_path / "more.jsonl"
    group = groups[45]
    row = {"query": group.query.text, "query_id": group.query.key, "dataset": group.query.dataset, "answer": "7"}
    row["domain"] = "math"  # the memory's domain counts, and it would infer another one
    earlier = [{**row, "policy": "new", "run": "r", "step": 0, "sample_index": sample} for sample in range(16)]
    rows.write_text("".join(json.dumps(one) + "\n" for one in earlier), encoding="utf-8")
    with Memory.open(tmp_path / "memory") as memory, GroupScorer.open(memory) as scorer:
        memory.ingest([rows])
        before = scorer.score_groups([group])[0]
        scorer.refresh()
        after = scorer.score_groups([group])[0]
    assert {reward.known for reward in before} == {False}
    assert {reward.known for reward in after} == {True}
    # All stored rollouts of the query answer 7, and none of the group does: its answers lose on average.
    assert not any(re.search(r"#### 7$", rollout.response) for rollout in group.rollouts)
    moved = [now.value - then.value for now, then in zip(after, before, strict=True)]
    assert sum(moved) / len(moved) < -0.01, moved
