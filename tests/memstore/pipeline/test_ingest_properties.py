"""Properties of any ingest: each row is ingested or rejected; partition and order of the files do not matter."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memstore.memory import Memory
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.doubles.embedder import HashEmbedder

SLOW = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
sound = {
    "query": st.sampled_from(["What is 1 + 1?", "What is 2 + 2?", "Name a color."]),
    "answer": st.sampled_from(["2", "4", "blue", "", "???", "\\boxed{2}"]),
    "thinking": st.text(max_size=20),
    "policy": st.sampled_from(["a", "b"]),
    "reward": st.sampled_from([0.0, 1.0, None]),
    "sample_index": st.integers(0, 3),
    "gold": st.sampled_from(["2", None]),
}
KEYS = [
    *sound,
    "query_id",
    "dataset",
    "domain",
    "response",
    "run",
    "step",
    "mean_logprob",
    "metadata",
    "input",
    "output",
]


@st.composite
def mangled_rows(draw: st.DrawFn) -> dict[str, Any]:
    row = {key: draw(values) for key, values in sound.items()}
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=4)):
        if draw(st.booleans()):
            row[key] = draw(anything)
        else:
            row.pop(key, None)
    return row


@pytest.fixture(scope="module")
def memory() -> Iterator[Memory]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(Path(folder) / "memory", create=True, embedder=HashEmbedder()) as opened,
    ):
        yield opened


@SLOW
@given(rows=st.lists(mangled_rows(), min_size=1, max_size=12))
def test_every_row_is_either_ingested_or_rejected(memory: Memory, rows: list[dict[str, Any]]) -> None:
    before = len(memory.snapshot().thinkings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        rejects_file = Path(folder) / "rejects.jsonl"
        summary = memory.ingest([path], rejects_file=rejects_file)
        rejected = [json.loads(line) for line in rejects_file.read_text().splitlines()] if summary.rejected else []
    assert summary.rows == len(rows)
    assert summary.added + summary.unchanged + summary.changed + summary.rejected == len(rows)
    assert len(memory.snapshot().thinkings) == before + summary.added
    assert len({entry["line"] for entry in rejected}) == summary.rejected
    assert all(entry["reason"].strip() for entry in rejected)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_partition_and_order_of_the_files_gives_the_same_graph(data: st.DataObject) -> None:
    rows = [
        {
            "query": f"What is {number % 4} + {number % 3}?",
            "thinking": f"It is {number % 5}.",
            "answer": str(number % 5),
            "policy": f"p{number % 2}",
            "run": "one",
            "sample_index": number,
            "reward": 1.0 if number % 6 == 0 else None,
        }
        for number in range(24)
    ]
    order = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows) - 1), max_size=3)))
    parts = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    digests = []
    for files in ([rows], parts):
        with (
            tempfile.TemporaryDirectory() as folder,
            Memory.open(Path(folder) / "memory", create=True, embedder=HashEmbedder()) as memory,
        ):
            for number, part in enumerate(files):
                path = Path(folder) / f"part-{number}.jsonl"
                path.write_text("".join(json.dumps(row) + "\n" for row in part))
                memory.ingest([path])
            digests.append(memory_digest(memory))
    assert digests[0] == digests[1]
