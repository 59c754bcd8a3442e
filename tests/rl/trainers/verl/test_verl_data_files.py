"""Training data for verl: content of the files, and no trace of unlabelled gold answers."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.records import ids
from memstore_rl.benchmarks.queries import SourceQuery, queries_of_files, queries_of_memory
from memstore_rl.trainers.verl.data import SCHEMA, DataPlan, write_data

PLAN = DataPlan(budgets=(0.2, 0.3), validation=0.1, test=0.2)
ONCE = replace(PLAN, batches=None)
"""Each query once, in the order of the source."""
SETS = ("openai_gsm__gsm8k", "thoughtsource__csqa", "icescore__humaneval")


def question(number: int, gold: str | None) -> SourceQuery:
    text, key = f"What is the secret of box {number}?", f"box/{number}"
    dataset = "boxes" if number % 3 else "chests"
    return SourceQuery(ids.query_id(text), text, dataset, key, "math", gold, None)


def questions(golds: Sequence[str | None]) -> list[SourceQuery]:
    return [question(number, gold) for number, gold in enumerate(golds)]


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def texts_in(value: Any) -> list[str]:
    """Return all texts in a cell."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts_in(item)]
    return [str(value)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "verl"
    write_data(questions([f"{731_900_017 + 97 * number}" for number in range(100)]), folder, PLAN)
    return folder


def test_gold_of_unlabelled_rows_is_nowhere_in_the_file(written: Path) -> None:
    # Nine-digit golds that occur nowhere else, so that any copy in the file is found.
    golds = {ids.query_id(q.text): str(q.gold) for q in questions(["x"] * 100)}
    golds = {query: f"{731_900_017 + 97 * number}" for number, query in enumerate(golds)}
    for budget, share in (("20", 14), ("30", 21)):
        path = written / f"train_memory_{budget}.parquet"
        rows = rows_of(written, f"train_memory_{budget}")
        raw = path.read_bytes() + uncompressed(path)
        hidden = [row for row in rows if not row["extra_info"]["labelled"]]
        assert len(rows) == 2 * len(hidden)
        assert len(hidden) == 70 - share
        for row in hidden:
            gold = golds[row["extra_info"]["query_id"]]
            assert gold.encode() not in raw
            assert int(gold).to_bytes(8, "little") not in raw
        for row in rows:
            if row["extra_info"]["labelled"]:
                assert golds[row["extra_info"]["query_id"]].encode() in raw


def uncompressed(path: Path) -> bytes:
    """Return the file's content without compression and dictionaries."""
    copy = path.with_suffix(".plain")
    pq.write_table(pq.read_table(path), copy, compression="none", use_dictionary=False)
    try:
        return copy.read_bytes()
    finally:
        copy.unlink()


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_files_do_not_depend_on_hidden_golds(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Changing golds of unlabelled queries leaves the training files identical to the last byte."""
    folder = tmp_path_factory.mktemp("twice")
    golds = data.draw(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=30, max_size=30)
    )
    golds = [gold if gold.strip() else "7" for gold in golds]
    one = questions(golds)
    write_data(one, folder / "one", PLAN)
    for budget in ("20", "30"):
        name = f"train_memory_{budget}"
        shown = {
            row["extra_info"]["query_id"] for row in rows_of(folder / "one", name) if row["extra_info"]["labelled"]
        }
        other = [q if q.id in shown else q._replace(gold=f"another {n}") for n, q in enumerate(one)]
        write_data(other, folder / f"other_{budget}", PLAN)
        for kind in ("memory", "budget"):
            file = f"train_{kind}_{budget}.parquet"
            assert (folder / "one" / file).read_bytes() == (folder / f"other_{budget}" / file).read_bytes()


def test_real_unlabelled_rows_hold_no_gold(shared_data: Path, tmp_path: Path) -> None:
    queries = queries_of_files([shared_data / "rollouts" / f"{name}.jsonl.gz" for name in SETS])
    write_data(queries, tmp_path / "data", ONCE)
    gold_of = {query.id: query.gold for query in queries}
    rows = rows_of(tmp_path / "data", "train_memory_20")
    hidden = [row for row in rows if not row["extra_info"]["labelled"]]
    assert len(hidden) == pytest.approx(0.8 * len(rows), abs=2)
    for row in hidden:
        gold = gold_of[row["extra_info"]["query_id"]]
        assert gold is not None
        assert row["reward_model"]["ground_truth"] == ""
        assert row["extra_info"]["answer"] == ""
        assert row["extra_info"]["question"] == row["prompt"][-1]["content"]
        # A short gold may occur by chance in the key ("gsm8k/test/12"), the id, the index or the question.
        by_chance = ("key", "query_id", "index", "question")
        extra = {name: value for name, value in row["extra_info"].items() if name not in by_chance}
        cells = texts_in([row["data_source"], row["ability"], row["reward_model"], extra])
        assert all(gold not in re.split(r"\W+", cell) and cell.strip() != gold for cell in cells)
        assert row["prompt"] == [
            {"role": "user", "content": next(q.text for q in queries if q.id == row["extra_info"]["query_id"])}
        ]


def test_modes_and_budgets(tmp_path: Path) -> None:
    written = tmp_path / "data"
    write_data(questions(["5"] * 100), written, ONCE)
    ids_in = {
        name: [row["extra_info"]["query_id"] for row in rows_of(written, name)]
        for name in (
            "train_oracle", "train_budget_20", "train_memory_20", "train_budget_30", "train_memory_30",
            "validation", "test",
        )
    }  # fmt: skip
    assert [len(ids_in[name]) for name in ids_in] == [70, 14, 70, 21, 70, 10, 20]
    assert ids_in["train_oracle"] == ids_in["train_memory_20"] == ids_in["train_memory_30"]
    assert set(ids_in["train_budget_20"]) < set(ids_in["train_budget_30"])
    shown = [
        row["extra_info"]["query_id"] for row in rows_of(written, "train_memory_20") if row["extra_info"]["labelled"]
    ]
    assert shown == ids_in["train_budget_20"]
    assert len({*ids_in["train_oracle"], *ids_in["validation"], *ids_in["test"]}) == 100
    for name in ("train_oracle", "train_budget_20", "validation", "test"):
        assert all(row["reward_model"]["ground_truth"] for row in rows_of(written, name))
        assert {row["extra_info"]["split"] for row in rows_of(written, name)} == {name.partition("_")[0]}


def test_rows_have_the_columns_of_verl(written: Path) -> None:
    assert pq.read_schema(written / "train_memory_20.parquet").equals(SCHEMA)
    row = rows_of(written, "train_oracle")[0]
    number = row["extra_info"]["index"]
    assert row["prompt"] == [{"role": "user", "content": f"What is the secret of box {number}?"}]
    assert row["reward_model"]["style"] == "rule"
    assert row["extra_info"]["key"] == f"box/{number}"
    assert row["extra_info"]["query_id"] == question(number, None).id
    indices = [
        row["extra_info"]["index"] for name in ("train_oracle", "validation", "test") for row in rows_of(written, name)
    ]
    assert sorted(indices) == list(range(100))


def test_system_prompt_precedes_the_query(tmp_path: Path) -> None:
    write_data(questions(["1"] * 20), tmp_path / "data", DataPlan(system="Think first."))
    roles = {tuple(turn["role"] for turn in row["prompt"]) for row in rows_of(tmp_path / "data", "train_oracle")}
    assert roles == {("system", "user")}


def test_queries_without_gold_are_in_mode_memory_only(tmp_path: Path) -> None:
    golds = [None if number % 2 else "5" for number in range(100)]
    write_data(questions(golds), tmp_path / "data", PLAN)
    assert any(not row["extra_info"]["labelled"] for row in rows_of(tmp_path / "data", "train_memory_20"))
    for name in ("train_oracle", "train_budget_20", "validation", "test"):
        assert all(row["reward_model"]["ground_truth"] == "5" for row in rows_of(tmp_path / "data", name))


def test_source_with_splits_and_repeated_queries(tmp_path: Path) -> None:
    rows = [
        {"query": "1 + 1?", "gold": 2, "split": "train"},
        {"query": "1 + 2?", "gold": "3", "split": "test"},
        {"query": "1 + 1?", "response": "Hm. #### 3", "domain": "math"},
        {"query": "1 + 3?", "answer": "4"},
    ]
    path = tmp_path / "source.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    queries = queries_of_files([path])
    assert [(q.text, q.gold, q.split, q.domain) for q in queries] == [
        ("1 + 1?", "2", "train", "math"),
        ("1 + 2?", "3", "test", "math"),
        ("1 + 3?", None, None, "other"),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"query": "1?", "gold": "2"}, {"query": "1?", "gold": "3"}], "source.jsonl:2: gold is '3', but an earlier"),
        ([{"query": "1?", "split": "dev"}], "source.jsonl:1: split is 'dev'"),
        ([{"gold": "3"}], "source.jsonl:1: query is missing"),
    ],
)
def test_invalid_row_is_named(rows: list[dict[str, str]], message: str, tmp_path: Path) -> None:
    path = tmp_path / "source.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        queries_of_files([path])


def test_queries_of_a_memory(trained_memory: Memory, tmp_path: Path) -> None:
    queries = queries_of_memory(trained_memory.graph)
    assert len(queries) == 40
    files = write_data(queries, tmp_path / "data", ONCE)
    assert {file.file: (file.rows, file.labelled) for file in files}["train_memory_20.parquet"] == (28, 8)  # 20 % of 40


def test_invalid_plans_leave_no_files(tmp_path: Path) -> None:
    queries_with_gold = questions(["1"] * 10)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for queries, folder, plan, message in (
        (queries_with_gold, "full", PLAN, "exists"),
        (queries_with_gold, "new", DataPlan(budgets=(0.0,)), "labels no query"),
        (queries_with_gold, "new", DataPlan(budgets=(2.0,)), "between 0 and 1"),
        (queries_with_gold, "new", DataPlan(modes=("all",)), "no mode 'all'"),  # type: ignore[arg-type]
        (questions([None] * 10), "new", PLAN, "has a gold answer"),
    ):
        with pytest.raises(InputError, match=message):
            write_data(queries, tmp_path / folder, plan)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
