"""Memory, file and reward service give a rollout the same score where they see the same memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.verbs import score_file, score_memory_rollouts, train_memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout

POLICIES = (
    ("a", "r1", 1, 0.9),
    ("a", "r1", 2, 0.8),
    ("b", "r1", None, 0.3),
    ("b", "r2", None, 0.3),
    ("c", "r3", 7, 0.6),
)
"""Policy, run and step of a group, and how often its rollouts are right."""
NEW = (("d", "r4", 1, 0.7), ("d", "r4", 2, 0.7), ("a", "r5", 2, 0.8), ("e", "r6", None, 0.4))
LABELLED, UNLABELLED, UNSEEN = 8, 8, 6

Key = tuple[str, str, str, int | None, int]
Who = tuple[str, str, int | None, float]


def rows_of(
    chance: np.random.Generator, who: tuple[Who, ...], queries: range, dataset: str = "sums"
) -> list[dict[str, Any]]:
    """Groups of one to three rollouts for each query and policy; a policy leaves out some queries."""
    rows = []
    for number in queries:
        for policy, run, step, skill in who:
            size = int(chance.integers(0, 4))
            for sample in range(size):
                right = chance.random() < skill
                value = number + 7 if right else number + 8 + int(chance.integers(3))
                row = {"query_id": str(number), "query": f"{number} + 7?", "domain": "math", "dataset": dataset}
                row |= {"policy": policy, "run": run, "step": step, "sample_index": sample}
                rows.append(
                    row | {"thinking": f"{policy}, {run}, {step}, {sample}: it is {value}.", "answer": str(value)}
                )
                if number < LABELLED and who is POLICIES:
                    rows[-1]["reward"] = float(right)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scores(path: Path) -> dict[Key, float]:
    """Probability of each rollout of a file of scores."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    names = ("query_id", "policy", "run", "step", "sample_index")
    return {tuple(line[name] for name in names): line["probability"] for line in lines}


class Stored(NamedTuple):
    """A trained memory, its rows, and the random numbers that made them."""

    memory: Memory
    rows: list[dict[str, Any]]
    chance: np.random.Generator


@pytest.fixture(params=[0, 1])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stored]:
    chance = np.random.default_rng(request.param)
    rows = rows_of(chance, POLICIES, range(LABELLED + UNLABELLED))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([write(tmp_path / "rows.jsonl", rows)])
        train_memory(memory, epochs=5, device="cpu")
        yield Stored(memory, rows, chance)


@pytest.mark.parametrize("dataset", ["sums", "a name that comes first"])
def test_a_file_as_ingested_has_the_scores_that_an_ingest_gives(stored: Stored, tmp_path: Path, dataset: str) -> None:
    new = rows_of(stored.chance, NEW, range(LABELLED + UNLABELLED + UNSEEN), dataset)
    file = write(tmp_path / "new.jsonl", new)
    score_file(stored.memory, file, as_ingested=True, output=tmp_path / "before.jsonl", device="cpu")
    stored.memory.ingest([file])
    score_memory_rollouts(stored.memory, output=tmp_path / "after.jsonl", device="cpu")
    before, after = scores(tmp_path / "before.jsonl"), scores(tmp_path / "after.jsonl")
    assert len(before) == len(new)
    assert len(after) > len(before)
    for key, probability in before.items():
        assert probability == pytest.approx(after[key], abs=1e-6), key


def test_memory_file_and_service_give_the_same_score(stored: Stored, tmp_path: Path) -> None:
    score_memory_rollouts(stored.memory, output=tmp_path / "memory.jsonl", device="cpu")
    rows = [row for row in stored.rows if int(row["query_id"]) >= LABELLED]
    score_file(stored.memory, write(tmp_path / "same.jsonl", rows), output=tmp_path / "file.jsonl", device="cpu")
    memory, file = scores(tmp_path / "memory.jsonl"), scores(tmp_path / "file.jsonl")
    assert memory.keys() == file.keys()
    service = rewards(stored.memory, rows)
    alone = scores_alone(stored, tmp_path, rows)
    # The service rounds to six decimals. No text occurs twice: equal vectors would be ties among the nearest
    # neighbours, which rounding to float32 breaks otherwise in other batches.
    for key, probability in memory.items():
        assert file[key] == pytest.approx(probability, abs=2e-6), key
        assert service[key] == pytest.approx(probability, abs=2e-6), key
        assert alone[key] == pytest.approx(probability, abs=2e-6), key
    assert len(set(memory.values())) > len(memory) / 4


def scores_alone(stored: Stored, folder: Path, rows: list[dict[str, Any]]) -> dict[Key, float]:
    """Scores of a file for each group."""
    found: dict[Key, float] = {}
    for group in groups(rows).values():
        file = write(folder / "one.jsonl", group)
        score_file(stored.memory, file, output=folder / "one_scores.jsonl", device="cpu")
        found |= scores(folder / "one_scores.jsonl")
    return found


def groups(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["query_id"], row["policy"], row["run"], row["step"]), []).append(row)
    return found


def rewards(memory: Memory, rows: list[dict[str, Any]]) -> dict[Key, float]:
    """Probabilities of the reward service for groups that are sent together."""
    own = list(groups(rows).items())
    names = ("thinking", "answer", "policy", "run", "step", "sample_index")
    sent = [
        Group(
            RewardQuery(rows[0]["query"], rows[0]["dataset"], rows[0]["query_id"], "math"),
            [Rollout(**{name: row[name] for name in names}) for row in rows],
        )
        for _, rows in own
    ]
    with GroupScorer.open(memory, device="cpu") as scorer:
        found = scorer.score_groups(sent)
    return {
        (*key, row["sample_index"]): reward.probability
        for (key, rows), given in zip(own, found, strict=True)
        for row, reward in zip(rows, given, strict=True)
        if reward.probability is not None
    }
