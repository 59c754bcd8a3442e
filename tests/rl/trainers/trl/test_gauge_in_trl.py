"""The gauge in TRL: audit rows of the evaluation feed it, its figures are logged, and a stop leaves None."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memstore.memory import Memory
from memstore_gnn.monitoring.residual_gap import GroupGap
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.gauge import Gauge
from memstore_rl.rewards.gauge_window import ScoredGroup
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Reward
from memstore_rl.trainers.trl import reward_function
from memstore_rl.trainers.verl.data import DataPlan, write_data

GROUP = 4


def harmful(gauge: Gauge) -> None:
    """Show the gauge a memory that harms, at a step before all others."""
    start = gauge.start([("r", -1)])
    truth = [Reward(0.0, "ground_truth", None, GROUP, False, None, True, 0.0)]
    gauge.observe([ScoredGroup(f"q{n}", start.steps[0], ["1"], truth, GroupGap(-0.3, True, 0.0)) for n in range(40)])


def score(function: Any, golds: Sequence[str], split: str, texts: Sequence[str]) -> tuple[list[Any], dict[str, float]]:
    """Score a group for each gold, each with the same texts; return the rewards and what is logged."""
    logged: dict[str, float] = {}
    rows = [number for number in range(len(golds)) for _ in texts]
    rewards = function(
        prompts=[f"what is {n} + {n + 1} ?" for n in rows],
        completions=[f"\\boxed{{{text}}}" for _ in golds for text in texts],
        data_source=["additions"] * len(rows),
        reward_model=[{"ground_truth": golds[n]} for n in rows],
        extra_info=[{"split": split, "query_id": f"id-{n}", "domain": "math"} for n in rows],
        log_metric=logged.__setitem__,
    )
    return rewards, logged


def test_audit_rows_feed_the_gauge_and_other_evaluation_does_not(trained_memory: Memory) -> None:
    with GroupScorer.open(trained_memory) as scorer:
        function = reward_function(scorer, num_generations=GROUP)
        rewards, logged = score(function, ["1", "3"], "audit", ["1", "1", "1", "3"])
        assert rewards == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
        assert (logged["memstore/gauge_judged"], logged["memstore/gauge_audited"]) == (2.0, 2.0)
        assert (logged["memstore/gauge_gap_groups"], logged["memstore/gauge_mixed_groups"]) == (1.0, 2.0)
        assert logged["memstore/gauge_stopped"] == 0.0
        assert not [name for name in logged if "gauge" in name and "_share" in name and "flip" not in name]
        _, logged = score(function, ["1", "3"], "validation", ["1", "1", "1", "3"])
        assert logged["memstore/gauge_judged"] == 2.0
        rewards, _ = score(function, ["", "3"], "audit", ["1", "3"])
        assert rewards == [None, None, 0.0, 1.0]


def test_stopped_predictions_are_none(trained_memory: Memory) -> None:
    with GroupScorer.open(trained_memory) as scorer:
        harmful(scorer.gauge)
        rewards, logged = score(reward_function(scorer), ["", "3"], "train", ["1", "1", "3"])
    assert rewards == [None, None, None, 0.0, 0.0, 1.0]
    assert (logged["memstore/gauge_stopped"], logged["memstore/gauge_withheld"]) == (1.0, 1.0)
    assert logged["memstore/unscored_share"] == 0.5


def test_scorer_without_a_model_logs_no_gauge() -> None:
    with GroupScorer.open(mode="oracle") as scorer:
        _, logged = score(reward_function(scorer), ["1"], "train", ["1", "2"])
    assert not [name for name in logged if "gauge" in name]


@pytest.mark.slow
def test_grpo_trainer_goes_on_when_the_gauge_stops_the_memory(
    trained_memory: Memory, tiny_policy: Path, tmp_path: Path
) -> None:
    """The evaluation has audit rows. After the stop, only labelled groups have rewards, as in mode budget."""
    import datasets
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    queries = [
        SourceQuery(f"id-{n}", f"what is {n} + {n + 1} ?", "additions", f"q{n}", "math", str(2 * n + 1), split)
        for n, split in enumerate(["train"] * 8 + ["audit"] * 2)
    ]
    write_data(queries, tmp_path / "data", DataPlan(budgets=(0.5,)))
    files = {name: str(tmp_path / "data" / f"{name}.parquet") for name in ("train_memory_50", "audit")}
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy, padding_side="left")
    with GroupScorer.open(trained_memory, device="cpu") as scorer:
        harmful(scorer.gauge)
        trainer = GRPOTrainer(
            model=str(tiny_policy),
            args=GRPOConfig(
                output_dir=str(tmp_path),
                use_cpu=True,
                bf16=False,
                per_device_train_batch_size=8,
                per_device_eval_batch_size=8,
                num_generations=GROUP,
                max_completion_length=2,
                shuffle_dataset=False,
                scale_rewards="none",
                max_steps=3,
                eval_strategy="steps",
                eval_steps=1,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                seed=0,
            ),
            reward_funcs=reward_function(scorer, num_generations=GROUP, scale_rewards="none"),
            train_dataset=datasets.Dataset.from_parquet(files["train_memory_50"], cache_dir=str(tmp_path / "a")),
            eval_dataset=datasets.Dataset.from_parquet(files["audit"], cache_dir=str(tmp_path / "b")),
            processing_class=tokenizer,
        )
        trainer.train()
        reading = scorer.gauge.reading()
    steps = [entry for entry in trainer.state.log_history if "memstore/ground_truth_share" in entry]
    assert [step["memstore/ground_truth_share"] for step in steps] == [0.5] * 3
    assert [step["memstore/unscored_share"] for step in steps] == [0.5] * 3
    assert [step["memstore/gauge_stopped"] for step in steps] == [1.0] * 3
    evaluations = [entry for entry in trainer.state.log_history if "eval_memstore/gauge_audited" in entry]
    assert len(evaluations) == 3
    assert reading.audited == 6
    assert reading.withheld == 3
