"""`memstore datasets`: the list, one benchmark, and files of its questions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstore_rl.benchmarks import questions

Command = Callable[..., Any]


@pytest.fixture
def rivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The declaration of a benchmark with twenty questions about rivers."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"number": number, "first": "Po", "second": "Oder", "longer": "AB"[number % 2]} for number in range(20)]
    (tmp_path / "rivers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    declared = {
        "domain": "qa",
        "source": "./rivers.jsonl",
        "query": "Map {number}: which is longer?",
        "gold": "{longer}",
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in declared.items()]
    (tmp_path / "rivers.toml").write_text("\n".join([*lines, 'choices = ["{first}", "{second}"]']), encoding="utf-8")
    return tmp_path / "rivers.toml"


def test_the_list_of_benchmarks(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "copies" / "piqa").mkdir(parents=True)
    (tmp_path / "cache" / "openai___gsm8k" / "main" / "0.0.0" / "abc").mkdir(parents=True)
    (tmp_path / "cache" / "openai___gsm8k" / "main" / "0.0.0" / "abc" / "dataset_info.json").write_text("{}")
    listed = command("datasets", "--data", tmp_path / "copies", "--json").document
    here = {entry["name"]: entry["here"] for entry in listed}
    assert len(listed) == 13
    assert {name: found for name, found in here.items() if found} == {
        "gsm8k": "cached",
        "gpqa": "gated",
        "piqa": "copy",
    }
    assert {entry["name"] for entry in listed if entry["out_of_domain"]} == {"numina_math", "siqa", "piqa"}
    table = command("datasets").out
    assert all(entry["name"] in table and entry["licence"] in table for entry in listed)


def test_the_list_imports_neither_torch_nor_datasets() -> None:
    code = (
        "import sys; from memstore_cli.main import run; run(['datasets']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'datasets', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=280).returncode == 0


def test_one_benchmark_is_shown(command: Command, rivers: Path) -> None:
    done = command("datasets", rivers)
    assert done.code == 0, done.err
    assert "20 of 20 rows: train 10, validation 4, test 6" in done.out
    assert "(A) Po\n(B) Oder" in done.out
    document = command("datasets", rivers, "--json").document
    assert (document["name"], document["here"], document["rows"]) == ("rivers", "copy", 20)
    assert document["drawn"] == {"train": 10, "validation": 4, "test": 6}


def test_written_questions_are_read_back_unchanged(command: Command, rivers: Path, tmp_path: Path) -> None:
    done = command("datasets", rivers, "--seed", "3", "--split", "test", "--output", tmp_path / "test.jsonl")
    assert done.code == 0, done.err
    assert questions(str(tmp_path / "test.jsonl")) == questions(str(rivers), split="test", seed=3)


def test_written_questions_are_limited_by_split_and_get_a_system_message(
    command: Command, rivers: Path, tmp_path: Path
) -> None:
    options = ["--limit", "3", "--system", "Choose.", "--output", tmp_path / "some.jsonl"]
    done = command("datasets", rivers, *options)
    assert done.code == 0, done.err
    written = questions(str(tmp_path / "some.jsonl"))
    assert [(each.prompt, each.system) for each in written] == [(None, "Choose.")] * 9
    for split in ("train", "validation", "test"):
        expected = questions(str(rivers), split=split, limit=3)
        assert {each.id for each in written if each.split == split} == {each.id for each in expected}
    refused = command("datasets", rivers, "--limit", "3")
    assert (refused.code, refused.err) == (
        2,
        "error: --limit and --system change the file that is written; add --output FILE\n",
    )


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["gms8k"], 1, "no benchmark or file 'gms8k'; did you mean gsm8k?"),
        (["--split", "test"], 2, "--output and --split need a benchmark; pass its NAME"),
        (["QUERIES"], 1, "is a file of queries, not a benchmark; use it with `memstore rollout"),
        (["RIVERS", "--output", "QUERIES"], 1, "already exists; choose a new file"),
        (["RIVERS", "--output", "nowhere/file"], 1, ": No such file or directory"),
    ],
)
def test_errors_are_one_sentence(
    command: Command, rivers: Path, tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    (tmp_path / "queries.jsonl").write_text('{"query": "2?"}\n', encoding="utf-8")
    named = {
        "QUERIES": str(tmp_path / "queries.jsonl"),
        "RIVERS": str(rivers),
        "nowhere/file": str(tmp_path / "a" / "b"),
    }
    done = command("datasets", *(named.get(word, word) for word in words))
    assert (done.code, done.out) == (code, "")
    assert [line for line in done.err.splitlines() if sentence in line] == done.err.splitlines()[-1:]
    assert done.err.splitlines()[-1].startswith("error: ")
