"""Verdicts on real responses agree with their sources, and canonical values decide as math-verify does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.text import extract_answer
from memstore_rl.verifiers import Attempt, Verifiers, standard_verifiers
from memstore_rl.verifiers.math import _compare_values, _gold_side, _side
from memstore_rl.verifiers.math_worker import compare


@pytest.fixture(scope="module")
def verifiers() -> Iterator[Verifiers]:
    made = standard_verifiers()
    yield made
    made.close()


def rows_of(path: Path, every: int) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for number, line in enumerate(lines) if number % every == 0]


@pytest.mark.parametrize(
    ("name", "every", "least"), [("openai_gsm__gsm8k", 5, 0.98), ("mmlupro__mmlu_pro_ori", 2, 0.97)]
)
def test_rewards_agree_with_the_source(
    shared_data: Path, verifiers: Verifiers, name: str, every: int, least: float
) -> None:
    rows = rows_of(shared_data / "raw" / f"{name}.jsonl.gz", every)
    domain = rows[0]["domain"]
    attempts = [Attempt(row["query"], row["gold"], extract_answer(row["response"], domain)) for row in rows]
    verdicts = verifiers.check(domain, attempts)
    agreed = sum(verdict.reward == row["reward"] for verdict, row in zip(verdicts, rows, strict=True))
    print(f"{name}: {agreed / len(rows):.4f} of {len(rows)} agree")
    assert agreed / len(rows) >= least


def test_canonical_values_decide_as_math_verify(shared_data: Path) -> None:
    rows = rows_of(shared_data / "rollouts" / "zeroeval__gsm8k.jsonl.gz", 40)
    decided = 0
    for gold, answer in {(row["gold"], row["answer"]) for row in rows}:
        quick = _compare_values(gold, answer)
        if quick is not None and _side(answer).formula:
            decided += 1
            letter = compare(_gold_side(gold).formula, _side(answer).formula)
            assert letter == f"{quick.reward:.0f}", (gold, answer)
    assert decided > 100
