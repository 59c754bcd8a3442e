"""A small memory: two queries with one right answer, one of code, and one that two sources know by the same key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder

SUM, PRODUCT, CODE = "How much is 2 and 2?", "How much is 3 times 3?", "Write a function that returns 2."


def _rows(query: str, key: str, answers: list[str], domain: str = "math") -> list[dict[str, Any]]:
    return [
        {
            "query": query,
            "query_id": key,
            "dataset": "sums",
            "domain": domain,
            "thinking": f"attempt {sample} of {key}",
            "answer": answer,
            "sample_index": sample,
        }
        for sample, answer in enumerate(answers)
    ]


ROWS = [
    *_rows(SUM, "sum", ["4", "4.0", "5", "6", ""]),
    *_rows(PRODUCT, "product", ["9", "6"]),
    *_rows(CODE, "code", ["def f():\n    return 2", "def f():\n    return 1 + 1", "def f():\n    return 3"], "code"),
    *_rows(PRODUCT, "shared", ["9"]),
    *_rows(SUM, "shared", ["4"]),
]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as opened:
        opened.ingest([file])
        yield opened
