"""The TRL reward function, alone and in GRPOTrainer on a CPU with a trained memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore_rl.benchmarks.budget import SplitName
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.service.client import RewardClient, ServiceGone
from memstore_rl.trainers.trl import reward_function
from memstore_rl.trainers.verl.data import DataPlan, write_data

GROUP = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen training queries, half of them labelled, and two validation queries."""
    folder = tmp_path_factory.mktemp("trl") / "data"
    split: dict[bool, SplitName] = {True: "train", False: "validation"}
    queries = [
        SourceQuery(f"id-{n}", f"what is {n} + {n + 1} ?", "additions", f"q{n}", "math", str(2 * n + 1), split[n < 16])
        for n in range(18)
    ]
    write_data(queries, folder, DataPlan(budgets=(0.5,)))
    return folder


def columns(numbers: Sequence[int], golds: Sequence[str], split: str = "train") -> dict[str, list[Any]]:
    """Return rows as the columns that TRL passes."""
    return {
        "prompts": [[{"role": "user", "content": f"what is {n} + {n + 1} ?"}] for n in numbers],
        "data_source": ["additions"] * len(numbers),
        "reward_model": [{"style": "rule", "ground_truth": gold} for gold in golds],
        "extra_info": [{"split": split, "query_id": f"id-{n}", "key": f"q{n}", "domain": "math"} for n in numbers],
    }


def answers(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_groups_are_found_in_any_row_order() -> None:
    numbers = [0, 1] * GROUP
    golds = ["1" if number == 0 else "3" for number in numbers]
    texts = [f"\\boxed{{{1 + 2 * (index % 2)}}}" for index in range(8)]
    order = random.Random(0).sample(range(8), 8)
    logged: dict[str, Any] = {}
    with GroupScorer.open(mode="oracle") as scorer:
        rows = columns([numbers[index] for index in order], [golds[index] for index in order])
        rewards = reward_function(scorer, num_generations=GROUP)(
            completions=answers(*(texts[index] for index in order)), log_metric=logged.__setitem__, **rows
        )
    assert rewards == [1.0] * 8
    assert logged["memstore/ground_truth_share"] == 1.0
    assert logged["memstore/short_share"] == 0.0


def test_repeated_query_is_two_groups_with_continued_numbering() -> None:
    numbers: list[list[int | None]] = []

    class Counting(GroupScorer):
        def score_groups(self, groups: Sequence[Group]) -> list[list[Reward]]:
            numbers.extend([rollout.sample_index for rollout in group.rollouts] for group in groups)
            return super().score_groups(groups)

    with Counting.open(mode="oracle") as scorer:
        function = reward_function(scorer, num_generations=GROUP)
        function(completions=answers(*["\\boxed{1}"] * 8), **columns([0] * 8, ["1"] * 8))
    assert numbers == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_group_split_over_processes_is_short() -> None:
    logged: dict[str, Any] = {}
    with GroupScorer.open(mode="oracle") as scorer:
        function = reward_function(scorer, num_generations=GROUP)
        function(
            completions=answers("\\boxed{1}", "\\boxed{1}"),
            log_metric=logged.__setitem__,
            **columns([0, 0], ["1", "1"]),
        )
    assert logged["memstore/short_share"] == 1.0


def test_unscored_is_none() -> None:
    with GroupScorer.open(mode="budget") as scorer:
        rewards = reward_function(scorer)(completions=answers("\\boxed{1}", "\\boxed{3}"), **columns([0, 1], ["1", ""]))
    assert rewards == [1.0, None]


def test_evaluation_uses_ground_truth_only(trained_memory: Memory) -> None:
    sources: dict[str, Any] = {}
    with GroupScorer.open(trained_memory) as scorer:
        function = reward_function(scorer)
        rows = columns([0, 1], ["1", ""], split="validation")
        rewards = function(completions=answers("\\boxed{1}", "\\boxed{3}"), log_extra=sources.__setitem__, **rows)
        assert rewards == [1.0, None]
        assert sources["source"] == ["ground_truth", "unscored"]
        rewards = function(completions=answers("\\boxed{1}", "\\boxed{3}"), **columns([0, 1], ["1", ""]))
    assert rewards[1] is not None


def test_residual_is_refused_where_trl_divides_by_the_deviation(trained_memory: Memory) -> None:
    logged: dict[str, Any] = {}
    with GroupScorer.open(trained_memory, shaping="residual") as scorer:
        for scale in (None, "group", "batch", True):
            with pytest.raises(InputError, match="does not divide by the standard deviation; set scale_rewards"):
                reward_function(scorer, scale_rewards=scale)
        reward_function(scorer, scale_rewards=False)
        function = reward_function(scorer, scale_rewards="none")
        texts = answers("\\boxed{1}", "\\boxed{1}", "\\boxed{1}", "\\boxed{3}")
        rewards = function(completions=texts, log_metric=logged.__setitem__, **columns([0, 0, 1, 1], [""] * 4))
    assert rewards[0] == rewards[1]
    assert logged["memstore/silent_share"] in (0.5, 1.0)


def test_plain_prompts_and_completions_are_read() -> None:
    with GroupScorer.open(mode="oracle") as scorer:
        rows = {**columns([0], ["1"]), "prompts": ["what is 0 + 1 ?"]}
        assert reward_function(scorer)(completions=["\\boxed{1}"], **rows) == [1.0]


def test_row_without_split_is_rejected() -> None:
    with GroupScorer.open(mode="oracle") as scorer, pytest.raises(InputError, match=r"no extra_info\.split"):
        reward_function(scorer)(completions=answers("1"), **columns([0], ["1"], split=""))


@pytest.mark.parametrize("column", ["data_source", "reward_model", "extra_info"])
def test_missing_column_is_rejected(column: str) -> None:
    rows = columns([0], ["1"])
    del rows[column]
    with GroupScorer.open(mode="oracle") as scorer, pytest.raises(InputError, match=rf"lacks .*{column}.*verl data`$"):
        reward_function(scorer)(completions=answers("1"), **rows)


def test_row_without_query_id_is_rejected() -> None:
    rows = columns([0], ["1"])
    del rows["extra_info"][0]["query_id"]
    with GroupScorer.open(mode="oracle") as scorer, pytest.raises(InputError, match=r"no extra_info\.query_id"):
        reward_function(scorer)(completions=answers("1"), **rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_generations": 0}, "num_generations is 0"),
        ({"mode": "hybrid"}, "there is no mode 'hybrid'; use one of oracle, budget, memory"),
        ({"when_gone": "zero"}, "when_gone is 'zero'; use fail or wait"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with GroupScorer.open(mode="oracle") as scorer, pytest.raises(InputError, match=message):
        reward_function(scorer, **options)


def test_address_is_rejected_as_scorer() -> None:
    with pytest.raises(InputError, match="scorer is a str; pass a GroupScorer or a RewardClient"):
        reward_function("http://127.0.0.1:8731")  # type: ignore[arg-type]


def test_missing_service_raises() -> None:
    with (
        RewardClient("http://127.0.0.1:9", deadline_s=0.2) as client,
        pytest.raises(ServiceGone, match="did not answer"),
    ):
        reward_function(client)(completions=answers("1"), **columns([0], ["1"]))


@pytest.mark.slow
def test_grpo_trainer_learns_from_ground_truth_and_predictions(
    trained_memory: Memory, data: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    import datasets
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy, padding_side="left")
    no_digits = [token for token in range(320) if token not in tokenizer.convert_tokens_to_ids(list("0123456789"))]
    with GroupScorer.open(trained_memory, device="cpu") as scorer:
        trainer = GRPOTrainer(
            model=str(tiny_policy),
            args=GRPOConfig(
                output_dir=str(tmp_path),
                use_cpu=True,
                bf16=False,
                per_device_train_batch_size=8,
                num_generations=GROUP,
                max_completion_length=1,
                generation_kwargs={"suppress_tokens": no_digits},
                max_steps=6,
                learning_rate=1e-3,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                seed=0,
            ),
            reward_funcs=reward_function(scorer, num_generations=GROUP),
            train_dataset=datasets.Dataset.from_parquet(str(data / "train_memory_50.parquet"), cache_dir=str(tmp_path)),
            processing_class=tokenizer,
        )
        before = trainer.model.model.embed_tokens.weight.detach().clone()
        trainer.train()
    steps = [entry for entry in trainer.state.log_history if "memstore/ground_truth_share" in entry]
    assert len(steps) == 6
    for step in steps:
        assert step["memstore/ground_truth_share"] + step["memstore/predicted_share"] == 1.0
        assert step["memstore/short_share"] == step["memstore/unscored_share"] == 0.0
        assert step["rewards/memstore/mean"] == step["reward"]
    assert 0 < sum(step["memstore/predicted_share"] for step in steps) < 6
    assert any(step["memstore/predicted_share"] == 1 and step["grad_norm"] > 0 for step in steps)
    assert float((trainer.model.model.embed_tokens.weight.detach() - before).abs().max()) > 0
