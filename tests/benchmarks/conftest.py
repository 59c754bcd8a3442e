"""Fixtures of the benchmarks' tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|im_end|>"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Llama whose heads share keys, and of a tokenizer that pads with its end mark, as SmolLM2's."""
    folder = tmp_path_factory.mktemp("llama")
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    marks = ["<|im_start|>", END]
    bytewise = trainers.BpeTrainer(special_tokens=marks, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokens.train_from_iterator(["Zoe keeps hens."], bytewise)
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token=END, pad_token=END).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"pad_token_id": 1, "eos_token_id": 1, "bos_token_id": None}
    config = LlamaConfig(vocab_size=tokens.get_vocab_size(), num_key_value_heads=2, **shape, **ends)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
