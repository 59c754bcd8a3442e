"""Fixtures of the tests with verl itself: a tiny policy of random weights, its data, verl's own configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

TRAINING, HELD_OUT = 8, 4
"""Rows of the data that the fixtures write: additions, every other training row without its gold answer."""


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer and a Qwen2 of random weights; nothing is downloaded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed

    folder = tmp_path_factory.mktemp("tiny-policy")
    tokens = Tokenizer(models.BPE(unk_token=None))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    tokens.train_from_iterator(["what is 2 + 3 ?", "the answer is 5"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=special[2], pad_token=special[0])
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    set_seed(0)
    ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape = Qwen2Config(vocab_size=320, num_key_value_heads=1, max_position_embeddings=256, **size, **ends)
    Qwen2ForCausalLM(shape).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def verl_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.parquet and validation.parquet, in the columns of `memstore verl data`."""
    folder = tmp_path_factory.mktemp("verl-data")
    rows = {"train": range(TRAINING), "validation": range(TRAINING, TRAINING + HELD_OUT)}
    for split, numbers in rows.items():
        labelled = {number: split != "train" or number % 2 == 0 for number in numbers}
        written = [row(number, split, gold=str(2 * number + 1) if labelled[number] else "") for number in numbers]
        pd.DataFrame(written).to_parquet(folder / f"{split}.parquet")
    return folder


def row(number: int, split: str, gold: str) -> dict[str, Any]:
    """One row: what is a + b?"""
    text = f"what is {number} + {number + 1} ?"
    return {
        "data_source": "additions",
        "prompt": [{"role": "user", "content": text}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": gold},
        "extra_info": {"split": split, "index": number, "query_id": "", "key": f"q{number}", "domain": "math"},
    }


@pytest.fixture(scope="session")
def verl_config(tiny_policy: Path) -> Callable[..., Any]:
    """verl's own configuration of `main_ppo`, with overrides."""
    import verl
    from hydra import compose, initialize_config_dir

    def composed(*overrides: str) -> Any:
        with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
            return compose(
                "ppo_trainer",
                overrides=[
                    f"actor_rollout_ref.model.path={tiny_policy}",
                    "actor_rollout_ref.rollout.name=vllm",
                    "actor_rollout_ref.rollout.agent.num_workers=2",
                    "actor_rollout_ref.actor.use_dynamic_bsz=True",
                    "data.max_prompt_length=64",
                    "data.max_response_length=8",
                    "reward.num_workers=2",
                    *overrides,
                ],
            )

    return composed


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray on this machine, as many logical processors as verl's actors ask for, down again afterwards."""
    import ray

    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=16,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": {**quiet, "TRANSFER_QUEUE_ENABLE": "1"}},
    )
    try:
        yield
    finally:
        ray.shutdown()
