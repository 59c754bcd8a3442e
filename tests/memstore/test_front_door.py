"""`from memstore import ...`: what it loads, and how memories and results are shown in a terminal and a notebook."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import memstore
from memstore import Memory, Settings
from memstore.graph.cypher_result import COUNTED_ROWS, SHOWN_ROWS, CypherResult
from memstore.snapshots.frames import to_pandas
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.testing.doubles.graph import MemoryGraph

HEAVY = ("torch", "pymilvus", "milvus_lite", "pyarrow", "pandas", "ladybug", "neo4j", "sentence_transformers")


def loaded_after(statement: str) -> set[str]:
    """Which heavy packages a new interpreter has loaded after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted(set({HEAVY!r}) & sys.modules.keys())))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    rows = [
        {"query": f"What is {n} + {n}? <b>", "dataset": "sums", "answer": str(2 * n), "reward": 1.0 if n else None}
        for n in range(3)
    ]
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(tmp_path / "a <memory>", create=True, embedder=HashEmbedder(), settings=Settings()) as opened:
        opened.ingest([file])
        yield opened


def test_import_memstore_loads_no_heavy_package() -> None:
    assert loaded_after("import memstore") == set()


def test_importing_memory_loads_neither_torch_nor_a_store() -> None:
    assert loaded_after("from memstore import Memory") <= {"pyarrow"}


def test_every_public_name_can_be_imported_and_is_listed() -> None:
    for name in memstore.__all__:
        assert getattr(memstore, name).__name__ == name
        assert name in dir(memstore)
    assert set(memstore._MODULES) == set(memstore.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Memroy'"):
        memstore.Memroy  # noqa: B018


def test_repr_of_a_memory_counts_its_content_while_it_is_open(memory: Memory) -> None:
    counts = "3 queries, 3 rollouts, 2 labelled"
    assert repr(memory) == f"<Memory {memory.location}: {counts}, namespace default, open>"
    memory.close()
    assert repr(memory) == f"<Memory {memory.location}: namespace default, closed>"


def test_html_of_a_memory_is_escaped_and_counts_its_content(memory: Memory) -> None:
    html = memory._repr_html_()
    assert "a &lt;memory&gt;" in html
    assert "<memory>" not in html
    assert "<td>rollouts</td><td>3</td>" in html
    memory.close()
    assert "<td>state</td><td>closed</td>" in memory._repr_html_()


def test_repr_of_a_snapshot_is_one_line_of_counts(memory: Memory) -> None:
    snapshot = memory.snapshot()
    shown = repr(snapshot)
    assert shown.startswith(f"Snapshot(id='{snapshot.manifest.id}', queries=3, thinkings=3, labelled=2, answers=3")
    assert "\n" not in shown
    assert "<td>generates edges</td><td>3</td>" in snapshot._repr_html_()
    assert repr(snapshot.edges["leads_to"]) == "EdgeTable(edges=3, properties=['text'])"


def test_repr_of_frames_gives_their_sizes(memory: Memory) -> None:
    shown = repr(to_pandas(memory.snapshot()))
    assert "Query [3 x" in shown
    assert "generates [3 x 2]" in shown


def test_repr_of_an_ingest_summary_leaves_out_what_is_empty(memory: Memory, tmp_path: Path) -> None:
    again = repr(memory.ingest([tmp_path / "sums.jsonl"]))
    assert again.startswith("IngestSummary(rows=3, unchanged=3, links={")
    assert "\n" not in again


def test_a_cypher_result_becomes_a_data_frame(memory: Memory) -> None:
    frame = memory.cypher("MATCH (t:Thinking) RETURN t.id AS id, t.reward AS reward ORDER BY t.reward").to_pandas()
    assert list(frame.columns) == ["id", "reward"]
    assert len(frame) == 3
    assert frame["reward"].notna().sum() == 2


def test_an_empty_cypher_result_keeps_its_columns(memory: Memory) -> None:
    frame = memory.cypher("MATCH (t:Thinking) WHERE t.id = 'none' RETURN t.id AS id").to_pandas()
    assert list(frame.columns) == ["id"]
    assert frame.empty


def test_showing_a_cypher_result_does_not_consume_its_rows(memory: Memory) -> None:
    result = memory.cypher("MATCH (q:Query) RETURN q.text AS text ORDER BY q.text")
    assert repr(result) == "CypherResult(columns=['text'])"
    assert "What is 0 + 0? &lt;b&gt;" in result._repr_html_()
    assert "3 rows" in result._repr_html_()
    assert [text for (text,) in result.rows] == [f"What is {n} + {n}? <b>" for n in range(3)]


@pytest.mark.parametrize(
    ("count", "note"),
    [
        (1, "1 row"),
        (SHOWN_ROWS, f"{SHOWN_ROWS} rows"),
        (SHOWN_ROWS + 7, "and 7 more rows"),
        (COUNTED_ROWS + 500, f"and more than {COUNTED_ROWS - SHOWN_ROWS:,} more rows"),
    ],
)
def test_html_of_a_cypher_result_caps_the_rows_and_counts_the_rest(count: int, note: str) -> None:
    result = CypherResult(["n"], ((n,) for n in range(count)))
    html = result._repr_html_()
    assert f"<p>{note}</p>" in html
    assert html.count("<tr>") == 1 + min(count, SHOWN_ROWS)
    assert [n for (n,) in result.rows] == list(range(count))


def test_rows_that_were_shown_and_partly_read_are_read_once() -> None:
    result = CypherResult(["n"], ((n,) for n in range(30)))
    rows = result.rows
    first = next(rows)
    assert "<td>1</td>" in result._repr_html_()
    assert [first, *rows] == [(n,) for n in range(30)]


def test_a_store_without_cypher_shows_no_counts(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.stores, "graph", MemoryGraph())
    assert "queries" not in repr(memory)
