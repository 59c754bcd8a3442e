"""Mode verdict in TRL: the budget of a step, the metrics, and GRPOTrainer for a few steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.trainers.trl import reward_function
from memstore_rl.trainers.verl.data import DataPlan, write_data

GROUP = 4


def call(function: Any, answers: Sequence[str], step: int, **columns: Any) -> tuple[list[float | None], dict[str, Any]]:
    """Call the function with two groups of a step, as TRL does; return rewards and metrics."""
    logged: dict[str, Any] = {}
    queries = [0] * 3 + [1] * 3
    rewards = function(
        prompts=[f"what is {number} + 5 ?" for number in queries],
        completions=[f"\\boxed{{{answer}}}" for answer in answers],
        data_source=["sums"] * 6,
        reward_model=[{"ground_truth": str(number + 5)} for number in queries],
        extra_info=[{"split": "train", "query_id": f"id-{number}", "domain": "math"} for number in queries],
        trainer_state=SimpleNamespace(global_step=step),
        log_metric=logged.__setitem__,
        **columns,
    )
    return rewards, logged


def test_a_step_buys_its_budget_and_logs_it() -> None:
    with GroupScorer(None, mode="verdict", verifier_budget=VerifierBudget(calls=1)) as scorer:
        function = reward_function(scorer, num_generations=3)
        rewards, logged = call(function, ["7", "7", "5", "1", "2", "3"], 1)
        assert rewards == [0.0, 0.0, 0.4, 0.4, 0.4, 0.4]
        assert logged["memstore/verdict_calls"] == logged["memstore/verdict_wrong"] == 1
        assert (logged["memstore/verdict_right"], logged["memstore/verdict_open"]) == (0, 4)
        assert logged["memstore/silent_share"] == 0.5
        rewards, logged = call(function, ["7", "5", "5", "6", "6", "6"], 2)
        assert rewards == [0.0, 1.0, 1.0, 0.8, 0.8, 0.8]
        assert (logged["memstore/verdict_calls"], logged["memstore/verdict_calls_total"]) == (1, 2)
        assert (logged["memstore/verdict_right"], logged["memstore/verdict_remembered"]) == (1, 1)


def test_the_mode_of_the_function_needs_the_budget_of_the_scorer() -> None:
    with GroupScorer.open(mode="oracle") as scorer, pytest.raises(InputError, match="needs a budget of verifier calls"):
        call(reward_function(scorer, mode="verdict"), ["7"] * 6, 1)


def test_other_modes_log_no_verdicts() -> None:
    with GroupScorer.open(mode="oracle") as scorer:
        _, logged = call(reward_function(scorer), ["7"] * 6, 1)
    assert not [name for name in logged if "verdict" in name]


@pytest.mark.slow
def test_grpo_trainer_trains_within_the_budget(tiny_policy: Path, tmp_path: Path) -> None:
    import datasets
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    queries = [
        SourceQuery(f"id-{n}", f"what is {n} + 1 ?", "sums", f"q{n}", "math", str(n + 1), "train") for n in range(4)
    ]
    write_data(queries, tmp_path / "data", DataPlan(modes=("oracle",)))
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy, padding_side="left")
    no_digits = [token for token in range(320) if token not in tokenizer.convert_tokens_to_ids(list("0123456789"))]
    rows = datasets.Dataset.from_parquet(str(tmp_path / "data" / "train_oracle.parquet"), cache_dir=str(tmp_path))
    with GroupScorer(None, mode="verdict", verifier_budget=VerifierBudget(calls=2)) as scorer:
        trainer = GRPOTrainer(
            model=str(tiny_policy),
            args=GRPOConfig(
                output_dir=str(tmp_path / "out"),
                use_cpu=True,
                bf16=False,
                per_device_train_batch_size=8,
                num_generations=GROUP,
                max_completion_length=1,
                generation_kwargs={"suppress_tokens": no_digits},
                scale_rewards="none",
                max_steps=8,
                learning_rate=1e-3,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                seed=0,
            ),
            reward_funcs=reward_function(scorer, num_generations=GROUP),
            train_dataset=rows,
            processing_class=tokenizer,
        )
        trainer.train()
        counts = scorer.verdict_counts
    assert counts is not None
    steps = [entry for entry in trainer.state.log_history if "memstore/verdict_calls" in entry]
    assert len(steps) == 8
    assert all(entry["memstore/verdict_calls"] <= 2 for entry in steps)
    assert sum(entry["memstore/verdict_calls"] for entry in steps) == counts.calls > 2
    assert steps[-1]["memstore/verdict_calls_total"] == counts.calls
    assert sum(entry["memstore/verdict_remembered"] for entry in steps) == counts.remembered > 0
    assert any(entry["grad_norm"] > 0 for entry in steps)
