"""A folder of training data is a data set for `datasets`, and TRL's trainers take it."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
import yaml

from memstore_rl.inspector.source import Source
from memstore_rl.training_data.candidates import Wanted
from memstore_rl.training_data.export import Target, export_best, export_pairs
from memstore_rl.training_data.select import BestRule, PairRule
from memstore_rl.training_data.template import Template

EVERY = Wanted(splits=("train", "test"))


def test_datasets_reads_a_folder(source: Source, tmp_path: Path) -> None:
    done = export_best(source, Target(tmp_path / "best"), BestRule(), EVERY)
    found = datasets.load_dataset(str(tmp_path / "best"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in found.items()} == done.splits
    assert found["train"].column_names[:2] == ["prompt", "completion"]
    assert found["test"][0]["completion"] == [{"content": "attempt 0\n\nParis", "role": "assistant"}]


def test_the_card_says_what_is_there(source: Source, tmp_path: Path) -> None:
    export_pairs(source, Target(tmp_path / "pairs"), PairRule(), EVERY)
    _, front, body = (tmp_path / "pairs" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["license"] == "unknown"
    assert values["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*.parquet"},
        {"split": "test", "path": "data/test-*.parquet"},
    ]
    for line in ("| train | 2 |", "| cities | 1 |", "| predicted | 2 |", "lowest gap: 0.3", "m-0123456789abcdef"):
        assert line in body


@pytest.mark.parametrize("plain", [False, True], ids=["chat", "plain"])
def test_trl_trainers_take_the_rows(plain: bool, scored_source: Source, tmp_path: Path, tiny_policy: Path) -> None:
    """The trainers check columns and roles, apply the chat template, and tokenize when they are made."""
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    template, cache = Template(plain=plain), str(tmp_path / "cache")
    export_best(scored_source, Target(tmp_path / "best.parquet", template), BestRule(), Wanted())
    export_pairs(scored_source, Target(tmp_path / "pairs.parquet", template), PairRule(), Wanted())
    rows = {
        name: datasets.Dataset.from_parquet(str(tmp_path / f"{name}.parquet"), cache_dir=cache)
        for name in ("best", "pairs")
    }
    common = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none", "max_length": 128}
    common |= {"max_steps": 1, "per_device_train_batch_size": 2, "save_strategy": "no"}
    sft = SFTTrainer(str(tiny_policy), SFTConfig(**common), train_dataset=rows["best"])
    assert len(sft.train_dataset) == len(rows["best"])
    assert all(row["labels"][0] == -100 and row["labels"][-1] != -100 for row in sft.train_dataset)
    assert sft.train().training_loss > 0
    dpo = DPOTrainer(str(tiny_policy), args=DPOConfig(**common), train_dataset=rows["pairs"])
    assert dpo.train().training_loss > 0
