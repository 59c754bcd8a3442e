"""Addition questions, half of which the stub server `openai_stub` answers correctly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memstore_rl.benchmarks.question import Question


def sums(count: int) -> Iterator[Question]:
    """`count` questions, each with another sum."""
    for number in range(count):
        yield Question(
            text=f"What is {10 + number} plus {3 + 2 * number} ?",
            dataset="sums",
            key=f"sum-{number}",
            domain="math",
            gold=str(13 + 3 * number),
        )


def write_sums(path: Path, count: int) -> Path:
    """Write the questions as a file of queries."""
    with path.open("w", encoding="utf-8") as file:
        for each in sums(count):
            row = {
                "query": each.text,
                "query_id": each.key,
                "dataset": each.dataset,
                "domain": each.domain,
                "gold": each.gold,
            }
            file.write(json.dumps(row) + "\n")
    return path


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of rollouts."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
