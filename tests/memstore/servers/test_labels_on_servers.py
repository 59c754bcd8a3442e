"""Labels by answer, their undo, and marks of audit queries in a memory on Neo4j and Milvus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memstore.errors import InputError, LabelConflict
from memstore.labels.answers import AnswerVerdict
from memstore.labels.audit import mark_audit
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.records.ids import query_id
from memstore.snapshots.aliases import in_split
from memstore.testing.doubles.embedder import HashEmbedder

pytestmark = pytest.mark.usefixtures("profiles")

SUM, OTHER = "How much is 2 and 2?", "How much is 3 and 3?"


def test_labels_and_marks(tmp_path: Path) -> None:
    rows = [
        {
            "query": query,
            "query_id": query[:13],
            "dataset": "sums",
            "domain": "math",
            "answer": answer,
            "thinking": answer,
        }
        for query, answers in ((SUM, ("4", "5", "4.0")), (OTHER, ("6",)))
        for answer in answers
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open("one", create=True, embedder=HashEmbedder(16), settings=Settings()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        assert memory.label_answers([AnswerVerdict(SUM, "4", 1.0)], by="ana").changed == 3
        found = dict(memory.cypher("MATCH (a:Answer) RETURN a.text, a.verdict").rows)
        assert found == {"4": 1.0, "5": 0.0, "6": None}
        with pytest.raises(LabelConflict, match="pass --replace"):
            memory.label_answers([AnswerVerdict(OTHER, "6", 1.0), AnswerVerdict(SUM, "5", 1.0)])
        memory.undo_labels()
        assert memory.stats().labelled_thinkings == 0

        with pytest.raises(InputError, match="q-none"):
            mark_audit(memory.stores, [query_id(OTHER), "q-none"])
        assert mark_audit(memory.stores, [query_id(OTHER)]) == 1
        assert mark_audit(memory.stores, [query_id(OTHER)]) == 0
        snapshot = memory.snapshot()
        marked = snapshot.queries["id"].to_numpy()[in_split(snapshot, "audit")]
        assert marked.tolist() == [query_id(OTHER)]
        assert memory.verify().ok
