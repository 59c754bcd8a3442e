"""Fixtures: a small memory with a trained reward model, groups to score, and a policy with random weights."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.memory import Memory
from memstore.sample import sample_path
from memstore_gnn.verbs import train_memory
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout

QUERIES = 50
"""Number of queries used, of the sample's 400."""
STORED_QUERIES = 40
"""Number of these queries that the memory holds."""
ROLLOUTS = 12
"""Rollouts used per query, of sixteen."""
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def sample_rows() -> Rows:
    """Rows of the sample by query key: eight of the late checkpoint, then four of the early one."""
    found: Rows = {}
    with gzip.open(sample_path(), "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if len(found) < QUERIES or row["query_id"] in found:
                found.setdefault(row["query_id"], []).append(row)
    return {key: rows[:ROLLOUTS] for key, rows in found.items()}


@pytest.fixture(scope="session")
def trained_folder(sample_rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed memory with a model trained on half of the labels. Do not modify it."""
    folder = tmp_path_factory.mktemp("rewards")
    lines = [json.dumps(row) for rows in list(sample_rows.values())[:STORED_QUERIES] for row in rows]
    (folder / "rollouts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with Memory.open(folder / "memory", create=True) as memory:
        memory.ingest([folder / "rollouts.jsonl"])
        train_memory(memory, budget=0.5, epochs=3, device="cpu")
    return folder / "memory"


@pytest.fixture(scope="session")
def trained_memory(trained_folder: Path) -> Iterator[Memory]:
    """The memory, open. Do not modify it."""
    with Memory.open(trained_folder) as memory:
        yield memory


@pytest.fixture(scope="session")
def groups(sample_rows: Rows) -> list[Group]:
    """Eight unlabelled rollouts of each query, as a trainer sends them; the last queries are not in the memory."""
    return [group_of(rows) for rows in sample_rows.values()]


def group_of(rows: list[dict[str, Any]], gold: str | None = "") -> Group:
    """Return the first eight rows as a group of a new run, whose label a budget withholds."""
    first = rows[0]
    query = RewardQuery(
        first["query"], dataset=first["dataset"], key=first["query_id"], domain="math", gold=gold, remember=False
    )
    return Group(query, [Rollout(response=row["response"], policy="new", run="r", step=1) for row in rows[:8]])


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer and a Qwen2 model with random weights; nothing is downloaded."""
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
