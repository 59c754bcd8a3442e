"""What is drawn: by the seed, nested, and nothing that is trained on is tested."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore_rl.benchmarks import labelled_ids, questions
from memstore_rl.benchmarks.queries import queries_of_files
from memstore_rl.benchmarks.question import Question
from memstore_rl.trainers.verl.data import DataPlan, write_data

DECLARED = 'domain = "other"\nsource = "./sums.jsonl"\nquery = "{q}"\ngold = "{a}"\n'


def sums(folder: Path, numbers: list[int], sample: int = 1_500) -> str:
    """A benchmark of sums, its rows in the order of `numbers`."""
    rows = [{"q": f"{number} + 1?", "a": str(number + 1)} for number in numbers]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "sums.toml").write_text(f"{DECLARED}sample = {sample}\n", encoding="utf-8")
    return str(folder / "sums.toml")


def texts(found: list[Question], split: str | None = None) -> set[str]:
    return {question.text for question in found if split in (None, question.split)}


def test_split_sizes_of_1500_questions(tmp_path: Path) -> None:
    found = questions(sums(tmp_path, list(range(2_000))))
    splits = [question.split for question in found]
    assert {name: splits.count(name) for name in splits} == {"train": 750, "validation": 300, "test": 450}


def test_the_sample_does_not_depend_on_the_order_of_the_source(tmp_path: Path) -> None:
    numbers = list(range(300))
    first = questions(sums(tmp_path, numbers, sample=100))
    random.Random(0).shuffle(numbers)
    assert questions(sums(tmp_path, numbers, sample=100)) == first


def test_another_seed_draws_another_sample(tmp_path: Path) -> None:
    source = sums(tmp_path, list(range(300)), sample=100)
    assert texts(questions(source, seed=1)) != texts(questions(source, seed=2))


def test_smaller_samples_and_limits_are_subsets(tmp_path: Path) -> None:
    large = questions(sums(tmp_path, list(range(300)), sample=200))
    small = questions(sums(tmp_path, list(range(300)), sample=50))
    assert large[:50] == [question for question in large if question.text in texts(small)]
    source = sums(tmp_path, list(range(300)), sample=200)
    assert questions(source, limit=20) == large[:20]
    tested = questions(source, split="test")
    assert questions(source, split="test", limit=5) == tested[:5]
    assert {question.split for question in tested} == {"test"}


def test_repeated_rows_give_one_question(tmp_path: Path) -> None:
    found = questions(sums(tmp_path, [*range(40), *range(40)]))
    assert len(found) == 40


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1_000), st.floats(0, 1), st.floats(0, 1))
def test_label_budgets_are_nested_subsets_of_the_training_questions(seed: int, one: float, other: float) -> None:
    asked = [
        Question(f"{name} {number}?", name, gold="1", split=("train", "test")[number % 2])
        for name in ("a", "b")
        for number in range(30)
    ]
    small, large = (labelled_ids(asked, share, seed) for share in sorted((one, other)))
    assert small <= large <= {question.id for question in asked if question.split == "train"}


def test_verl_data_labels_the_same_questions(tmp_path: Path) -> None:
    found = questions(sums(tmp_path, list(range(60))))
    rows = [
        {"query": question.text, "dataset": question.dataset, "gold": question.gold, "domain": "other"}
        | {"split": question.split}
        for question in found
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_data(
        queries_of_files([tmp_path / "rows.jsonl"]), tmp_path / "data", DataPlan(budgets=(0.2,), modes=("budget",))
    )
    import pyarrow.parquet as pq

    written = pq.read_table(tmp_path / "data" / "train_budget_20.parquet")["extra_info"].to_pylist()
    assert {entry["query_id"] for entry in written} == labelled_ids(found, 0.2)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"split": "dev"}, "unknown split 'dev'; use one of train, validation, test"),
        ({"limit": 0}, "the limit is 0; it must be 1 or more"),
    ],
)
def test_invalid_splits_and_limits_are_rejected(tmp_path: Path, asked: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        questions(sums(tmp_path, [1, 2, 3]), **asked)  # type: ignore[arg-type]
