"""Inference of the domain from the query and the gold answer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from memstore.text import infer_domain
from memstore.types import Domain

CASES: list[tuple[str, str | None, Domain]] = [
    ("Which?\n(A) x\n(B) y", None, "qa"),
    ("Which?\n(A) x\n(B) y", "B", "qa"),
    ("How many?", "18", "math"),
    ("How many?", "$1,200", "math"),
    ("How many?", "16 - 3 = 13\n#### 13", "math"),
    ("Simplify.", "\\frac{x}{2}", "math"),
    ("def f(x):\n    ...", None, "code"),
    ("Write f.", "def check(candidate):\n    assert candidate(1) == 1", "code"),
    ("Write f.", "assert f(1) == 1", "code"),
    ("def f(x):\n    '''Options\n    (A) x\n    (B) y\n    '''", "assert f(1)", "code"),
    ("What is the capital?", "Paris", "other"),
    ("How many?", None, "other"),
    ("Do the math about codes and mmlu", None, "other"),
]


@pytest.mark.parametrize(("query", "gold", "domain"), CASES)
def test_the_domain_follows_from_the_content(query: str, gold: str | None, domain: Domain) -> None:
    assert infer_domain(query, gold) == domain


def test_every_real_query_has_the_recorded_domain(shared_data: Path) -> None:
    for path in sorted((shared_data / "rollouts").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            seen = {(row["query"], row["gold"], row["domain"]) for row in map(json.loads, lines)}
        assert [query for query, gold, domain in seen if infer_domain(query, gold) != domain] == []
