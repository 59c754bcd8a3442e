"""Training data of a memory and of its snapshot: rows, sources, what is left out, files, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError, MemstoreError, ModelError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.inspector.source import MemorySource, Source
from memstore_rl.training_data.candidates import Wanted, find_candidates
from memstore_rl.training_data.export import Exported, Target, export_best, export_pairs
from memstore_rl.training_data.select import BestRule, PairRule
from memstore_rl.training_data.template import Template

from .conftest import AUDIT, LABELLED, MODEL, PARIS, ROWS, SCORED, build, score

EVERY = Wanted(splits=("train", "test"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(row: dict[str, Any]) -> str:
    return str(row["prompt"][-1]["content"])


def best(source: Source, path: Path, rule: BestRule | None = None, wanted: Wanted = EVERY) -> Exported:
    return export_best(source, Target(path), rule or BestRule(), wanted)


def test_the_best_rollouts_with_their_sources(source: Source, tmp_path: Path) -> None:
    done = best(source, tmp_path / "best.jsonl")
    rows = lines(tmp_path / "best.jsonl")
    assert done.rows == len(rows) == 6
    assert (done.queries, done.splits, done.model) == (3, {"train": 5, "test": 1}, MODEL)
    assert done.sources == {"ground_truth": 3, "predicted": 2, "remembered": 1}
    assert done.left_out == {"no_reward": 1, "audit": 2, "cut_off": 1, "no_answer": 1}
    assert done.bytes == (tmp_path / "best.jsonl").stat().st_size
    labelled = [row for row in rows if asked(row) == LABELLED]
    # Attempts 1 and 2 say the same; the verdict on 4 holds for 4.0; attempt 6 was cut off.
    assert sorted(row["completion"][0]["content"] for row in labelled) == [
        "attempt 0\n\n4",
        "attempt 1\n\n4",
        "attempt 4\n\n4.0",
    ]
    assert {row["source"]: row["reward"] for row in labelled} == {"ground_truth": 1.0, "remembered": 1.0}
    assert {row["probability"] for row in labelled} == {None}
    assert {(row["votes"], row["rollouts"]) for row in labelled} == {(5, 8)}
    scored = [row for row in rows if asked(row) == SCORED]
    assert [(row["reward"], row["probability"], row["source"], row["model"]) for row in scored] == [
        (0.9, 0.9, "predicted", MODEL),
        (0.8, 0.8, "predicted", MODEL),
    ]
    assert [(row["policy"], row["run"], row["step"], row["sample_index"]) for row in scored] == [
        ("small", "second", 7, 0),
        ("small", "second", 7, 1),
    ]
    assert scored[0]["completion"] == [{"role": "assistant", "content": "attempt 0\n\n9"}]


def test_a_known_right_answer_makes_others_wrong(source: Source) -> None:
    [group] = [group for query, group in find_candidates(source, Wanted()).groups.items() if query.rollouts == 8]
    wrong = {(one.sample_index, one.reward, one.source) for one in group if one.reward < 0.5}
    assert wrong == {(3, 0.0, "ground_truth"), (5, 0.0, "remembered")}


def test_audit_queries_are_never_exported(source: Source, tmp_path: Path) -> None:
    best(source, tmp_path / "best.jsonl", BestRule(min_reward=0.0))
    export_pairs(source, Target(tmp_path / "pairs.jsonl"), PairRule(per_query=9), EVERY)
    for name in ("best", "pairs"):
        assert AUDIT not in (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="audit queries are kept for measuring"):
        best(source, tmp_path / "audit.jsonl", wanted=Wanted(splits=("audit",)))


def test_pairs_with_their_gap(source: Source, tmp_path: Path) -> None:
    done = export_pairs(source, Target(tmp_path / "pairs.jsonl"), PairRule(per_query=2), EVERY)
    rows = lines(tmp_path / "pairs.jsonl")
    assert done.rows == len(rows) == 5
    scored = [row for row in rows if asked(row) == SCORED]
    assert [(row["chosen_reward"], row["rejected_reward"], row["gap"]) for row in scored] == [
        (0.9, 0.1, 0.8),
        (0.8, 0.4, 0.4),
    ]
    assert scored[0]["chosen"] == [{"role": "assistant", "content": "attempt 0\n\n9"}]
    assert scored[0]["rejected"] == [{"role": "assistant", "content": "attempt 3\n\n33"}]
    assert (scored[0]["chosen_probability"], scored[0]["rejected_source"]) == (0.9, "predicted")
    assert all(row["chosen_answer_id"] != row["rejected_answer_id"] for row in rows)


def test_a_test_split_is_exported_only_when_it_is_named(source: Source, tmp_path: Path) -> None:
    best(source, tmp_path / "train.jsonl", wanted=Wanted())
    assert PARIS not in (tmp_path / "train.jsonl").read_text(encoding="utf-8")
    best(source, tmp_path / "test.jsonl", wanted=Wanted(splits=("test",)))
    assert {asked(row) for row in lines(tmp_path / "test.jsonl")} == {PARIS}


def test_datasets_and_hidden_runs(source: Source, tmp_path: Path) -> None:
    best(source, tmp_path / "cities.jsonl", wanted=Wanted(datasets=("cities",), splits=("test",)))
    assert {row["dataset"] for row in lines(tmp_path / "cities.jsonl")} == {"cities"}
    best(source, tmp_path / "first.jsonl", wanted=Wanted(hidden_runs=("second",)))
    assert {asked(row) for row in lines(tmp_path / "first.jsonl")} == {LABELLED}


def test_the_same_rows_in_every_format(source: Source, tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.parquet", "folder"):
        best(source, tmp_path / name)
    rows = lines(tmp_path / "rows.jsonl")
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == rows
    shards = [tmp_path / "folder" / "data" / f"{split}-00000-of-00001.parquet" for split in ("train", "test")]
    assert [row for shard in shards for row in pq.read_table(shard).to_pylist()] == rows
    first = (tmp_path / "rows.jsonl").read_bytes()
    export_best(source, Target(tmp_path / "rows.jsonl", force=True), BestRule(), EVERY)
    assert (tmp_path / "rows.jsonl").read_bytes() == first


def test_templates(source: Source, tmp_path: Path) -> None:
    template = Template("<think>\n{thinking}\n</think>\n{answer}", system="Be brief.")
    export_best(source, Target(tmp_path / "chat.jsonl", template), BestRule(1), Wanted())
    row = next(row for row in lines(tmp_path / "chat.jsonl") if asked(row) == SCORED)
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SCORED}]
    assert row["completion"] == [{"role": "assistant", "content": "<think>\nattempt 0\n</think>\n9"}]
    export_best(source, Target(tmp_path / "plain.jsonl", Template(plain=True)), BestRule(1), Wanted())
    row = next(row for row in lines(tmp_path / "plain.jsonl") if row["prompt"].startswith(SCORED))
    assert (row["prompt"], row["completion"]) == (f"{SCORED}\n\n", "attempt 0\n\n9")


def test_a_thinking_may_have_the_words_of_the_template() -> None:
    assert Template(plain=True).completion_of("write {answer}", "{thinking}") == "write {answer}\n\n{thinking}"


@pytest.mark.parametrize(
    "template",
    [Template("no place"), Template(prompt="no place"), Template(plain=True, system="Be brief.")],
)
def test_templates_that_lack_something(template: Template, source: Source, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write"):
        export_best(source, Target(tmp_path / "x.jsonl", template), BestRule(), Wanted())


@pytest.mark.parametrize(
    ("wanted", "kind", "message"),
    [
        (Wanted(datasets=("none",)), InputError, "no dataset 'none'; it has cities, sums"),
        (Wanted(splits=("dev",)), InputError, "no split 'dev'; it has test, train"),
        (Wanted(hidden_runs=("third",)), InputError, "no run 'third'"),
        (Wanted(hidden_runs=("first", "second")), InputError, "is left to export: .* of queries of a hidden run"),
        (Wanted(model="m-9"), ModelError, "no reward model 'm-9'; it has m-0123456789abcdef"),
    ],
)
def test_what_the_memory_lacks(
    wanted: Wanted, kind: type[MemstoreError], message: str, source: Source, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        best(source, tmp_path / "x.jsonl", wanted=wanted)
    assert list(tmp_path.iterdir()) == []


def test_nothing_good_enough(source: Source, tmp_path: Path) -> None:
    only = Wanted(hidden_runs=("first",))
    with pytest.raises(
        InputError, match=r"none of the 1 queries .* has a reward of at least 0\.95; lower --min-reward"
    ):
        best(source, tmp_path / "x.jsonl", BestRule(min_reward=0.95), only)
    with pytest.raises(InputError, match=r"differ by 0\.9 or more; lower --min-gap"):
        export_pairs(source, Target(tmp_path / "x"), PairRule(min_gap=0.9), only)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.csv", "unknown ending; name a .jsonl or .parquet file"),
        ("there.jsonl", "already exists; name a new file, or overwrite it with --force"),
        ("full", "exists and is not empty; name a new folder"),
        ("none/rows.jsonl", "does not exist; create it first"),
    ],
)
def test_outputs_that_cannot_be_written(name: str, message: str, source: Source, tmp_path: Path) -> None:
    (tmp_path / "there.jsonl").write_text("mine", encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(InputError, match=message):
        best(source, tmp_path / name)
    assert (tmp_path / "there.jsonl").read_text(encoding="utf-8") == "mine"


def test_a_failure_leaves_the_old_file(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("mine", encoding="utf-8")
    monkeypatch.setattr(Template, "completion_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_best(source, Target(path, force=True), BestRule(), Wanted())
    with pytest.raises(ZeroDivisionError):
        export_best(source, Target(tmp_path / "folder"), BestRule(), Wanted())
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("rows.parquet", "mine")]


def test_memories_without_rollouts_rewards_or_models(tmp_path: Path) -> None:
    empty = Memory.open(tmp_path / "empty", create=True, embedder=HashEmbedder())
    with empty as memory, pytest.raises(InputError, match="no rollouts to export"):
        best(MemorySource(memory), tmp_path / "x.jsonl", wanted=Wanted())
    (tmp_path / "unscored").mkdir()
    rows = [row | {"reward": None} for row in ROWS]
    with build(tmp_path / "unscored", rows) as memory:
        with pytest.raises(InputError, match="has a reward; score them with `memstore score`, or label some"):
            best(MemorySource(memory), tmp_path / "x.jsonl", wanted=Wanted())
        with pytest.raises(ModelError, match="it has none yet; train one with `memstore train`"):
            best(MemorySource(memory), tmp_path / "x.jsonl", wanted=Wanted(model="m-0"))


def test_a_memory_with_labels_and_no_model(tmp_path: Path) -> None:
    with build(tmp_path, ROWS) as memory:
        done = best(MemorySource(memory), tmp_path / "x.jsonl")
        assert done.model is None
        assert done.left_out["no_reward"] == 5
        score(memory)
        score(memory, "m-1123456789abcdef", 2)
        with pytest.raises(ModelError, match="several reward models 'm-'"):
            best(MemorySource(memory), tmp_path / "y.jsonl", wanted=Wanted(model="m-"))
        assert best(MemorySource(memory), tmp_path / "y.jsonl", wanted=Wanted(model="m-0")).model == MODEL


def test_an_export_is_read_again_by_ingest(scored_memory: Memory, tmp_path: Path) -> None:
    """The rows are in TRL's format, which ingest knows; rollouts keep their query, their answer and their reward."""
    best(MemorySource(scored_memory), tmp_path / "rows.jsonl", wanted=Wanted())
    again = scored_memory.read_rollouts([tmp_path / "rows.jsonl"])
    rows = lines(tmp_path / "rows.jsonl")
    assert set(again.queries["id"].to_pylist()) == {row["query_id"] for row in rows}
    assert set(again.answers["id"].to_pylist()) == {row["answer_id"] for row in rows}
