"""Groups that decline to answer get the mean of the labels, not the certainty of unanimous groups."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.scoring.declined import declines
from memstore_gnn.verbs import score_file, score_memory_rollouts, train_memory


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.", "I don’t know", "i do not know the answer.", "I'm not sure.", "I am unsure", "Unknown", "N/A",
        "I cannot answer this question.", "Sorry, I can't answer that.", "I have no idea.", "**I don't know.**", "idk",
        "I'm sorry, but I cannot solve this problem.", "No idea", "I don't  know\n",
    ],
)  # fmt: skip
def test_texts_that_decline(text: str) -> None:
    assert declines(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "no", "No", "none", "None", "no solution", "x", "I", "42", "I don't know, maybe 42.", "I know.",
        "the unknown is 3", "It cannot be determined.", "(E) cannot be determined", "not enough information", "DNE",
        "I don't know " * 20,
    ],
)  # fmt: skip
def test_answers_decline_nothing(text: str) -> None:
    # Near misses: some of these are the right answer of a question.
    assert not declines(text)


DECLINED = ["I don't know.", "I do not know", "Unknown", "I'm not sure."]


def rows_of(query: str, responses: list[str], **others: Any) -> list[dict[str, Any]]:
    return [
        {"query": query, "response": response, "domain": "math", "sample_index": sample} | others
        for sample, response in enumerate(responses)
    ]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """A memory with labels of mean 0.75, an open query that all decline, and one that one of four declines."""
    folder = tmp_path_factory.mktemp("declined")
    rows = []
    for number in range(10):
        for sample, given in enumerate([number + 1] * 3 + [number + 2]):
            row = rows_of(f"What is {number} + 1?", [f"We add.\n#### {given}"], reward=float(given == number + 1))[0]
            rows.append(row | {"sample_index": sample})
    rows += rows_of("What is the tenth number?", DECLINED)
    rows += rows_of("What is 20 + 1?", ["#### 21", "#### 21", "#### 21", DECLINED[0]])
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as opened:
        assert opened.ingest([folder / "rows.jsonl"]).rejected == 0
        train_memory(opened, epochs=2, device="cpu")
        yield opened


def scores_of(path: Path) -> dict[str, list[float]]:
    """Rewards in a file of scores, by query."""
    found: dict[str, list[float]] = {}
    for line in path.read_text().splitlines():
        score = json.loads(line)
        assert score["probability"] == score["reward"]
        found.setdefault(score["query_id"], []).append(score["reward"])
    return found


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "decline to answer" in record.getMessage()]


def test_a_group_of_the_memory_that_declines_gets_the_mean_label(
    memory: Memory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        score_memory_rollouts(memory, output=tmp_path / "scores.jsonl", device="cpu")
    found = sorted(scores_of(tmp_path / "scores.jsonl").values(), key=lambda rewards: rewards.count(0.75))
    assert [rewards.count(0.75) for rewards in found] == [0, 4]
    assert len(logged(caplog)) == 1
    assert "4 rollouts" in logged(caplog)[0]


@pytest.mark.parametrize("as_ingested", [False, True])
@pytest.mark.parametrize(
    ("responses", "declined"),
    [
        (DECLINED, True),
        (["I don't know."] * 8, True),
        (["I don't know."], True),
        (["#### 7"] * 8, False),  # a near miss: unanimous, with an answer
        (["I don't know."] * 7 + ["#### 7"], False),  # one rollout answers
        (["No."] * 4, False),
    ],
)
def test_a_group_of_a_file_that_declines_gets_the_mean_label(
    memory: Memory,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    as_ingested: bool,
    responses: list[str],
    declined: bool,
) -> None:
    rows = rows_of("Which number is it?", responses, run="new", step=1)
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "scores.jsonl"
    with caplog.at_level(logging.WARNING):
        score_file(memory, tmp_path / "new.jsonl", as_ingested=as_ingested, output=output, device="cpu")
    (rewards,) = scores_of(output).values()
    assert (set(rewards) == {0.75}) is declined
    assert len(logged(caplog)) == declined
