"""Rows that no reader of programs can write out are ingested, trained on and scored like all others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.verbs import score_file, score_memory_rollouts, train_memory

POISONS = {
    "sum": "return " + " + ".join(["x"] * 400),
    "calls": "return x" + "()" * 400,
    "minus": "return " + "-" * 500 + "1",
    "hexadecimal": "return 0x" + "F" * 4000,
}
ANNOTATIONS = {"minus": "-" * 380 + "1", "attribute": "a" + ".b" * 150, "hexadecimal": "0x" + "F" * 300}


def _row(number: int, sample: int, body: str, annotation: str = "int") -> dict[str, Any]:
    example = f">>> f{number}(3)\n    {3 + number}"
    query = f"def f{number}(x: {annotation}) -> int:\n    '''Return x + {number}.\n    {example}\n    '''\n"
    response = f"try {sample}\n```python\ndef f{number}(x):\n    {body}\n```"
    return {"query": query, "response": response, "domain": "code", "dataset": "toy", "sample_index": sample}


def _rows(first: int, queries: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(first, first + queries):
        for sample in range(3):
            wrong = sample == 0 and number % 2 == 0
            body = f"return x + {number + wrong}"
            rows.append(_row(number, sample, body) | {"reward": float(not wrong)})
    return rows


def test_a_memory_with_poisoned_rows_is_trained_and_scored(tmp_path: Path) -> None:
    good = _rows(0, 8)
    labelled = [_row(0, 10 + i, body) | {"reward": 0.0} for i, body in enumerate(POISONS.values())]
    unlabelled = [_row(20, i, body) for i, body in enumerate(POISONS.values())]
    unlabelled += [_row(30 + i, 0, "return x", text) for i, text in enumerate(ANNOTATIONS.values())]
    rows = [*good, *labelled, *unlabelled]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unlabelled[::-1]))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        assert memory.ingest([tmp_path / "rows.jsonl"]).added == len(rows)
        train_memory(memory, epochs=2, device="cpu")
        assert score_memory_rollouts(memory, output=tmp_path / "scores.jsonl").scored == len(unlabelled)
        score_file(memory, tmp_path / "new.jsonl", output=tmp_path / "new_scores.jsonl")
    for name in ("scores.jsonl", "new_scores.jsonl"):
        scores = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert len(scores) == len(unlabelled)
        assert np.isfinite([score["probability"] for score in scores]).all()
