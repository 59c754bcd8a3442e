"""Models whose `generate` is fast for a small model on a CPU; for a tiny one it takes two thirds of the time.

Each distinct prompt is read once, keys and values have one buffer, and finished responses leave the batch. It samples
at temperature 1, greedily, or as the caller draws. A greedy response is the one of transformers' own `generate`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

Buffers = list[tuple[Tensor, Tensor]]
"""Keys and values of each layer, each [B, heads, length, width / heads] of the model's type."""
Draw = Callable[[Tensor, Tensor], Tensor]
"""From logits [B, V] and the places [B] of their responses in the result to the next tokens, int64 [B]. It is also
called for responses that have ended and not left the batch yet."""
FINISHED = 0.25
"""Share of finished responses at which they leave the batch."""


class FastSampling:
    """The `generate` of a model with the modules of a Qwen2 or a Llama."""

    config: Any
    model: Any
    lm_head: Any
    bfloat16 = False
    """Whether matrix products are in bfloat16 while the weights stay as they are; with AVX512_BF16 a training is then
    three times as fast."""

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        max_new_tokens: int | None = None,
        do_sample: bool | None = None,
        num_return_sequences: int = 1,
        generation_config: Any = None,
        draw: Draw | None = None,
        **unused: Any,
    ) -> Tensor:
        """Prompts with their responses, int64 [B, P + N]; the padding is at the left of a prompt.

        `draw` takes the place of `do_sample`.
        """
        with computing(self):
            return self._generate(
                input_ids, attention_mask, max_new_tokens, do_sample, num_return_sequences, generation_config, draw
            )

    def _generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        max_new_tokens: int | None,
        do_sample: bool | None,
        num_return_sequences: int,
        generation_config: Any,
        draw: Draw | None,
    ) -> Tensor:
        length = max_new_tokens or generation_config.max_new_tokens
        sample = generation_config.do_sample if do_sample is None and draw is None else do_sample
        asked = input_ids.repeat_interleave(num_return_sequences, 0)
        real = attention_mask.repeat_interleave(num_return_sequences, 0).bool()
        hidden, buffers = self._read(asked, real, length)
        end, pad = self.config.eos_token_id, self.config.pad_token_id
        prompt, made = asked.shape[1], asked.new_full((len(asked), length), pad)
        rows, places = torch.arange(len(asked)), real.sum(1, keepdim=True)
        known = functional.pad(real, (0, length), value=True)[:, None, None]
        for index in range(length):
            logits = self.lm_head(hidden)
            token = draw(logits, rows) if draw else self._draw(logits, sample)
            made[rows, index] = token
            ended = made[rows, : index + 1].eq(end).any(1)
            if ended.all():
                break
            if ended.float().mean() >= FINISHED:
                keep = ~ended
                rows, places, known, token = rows[keep], places[keep], known[keep], token[keep]
                buffers = [(keys[keep], values[keep]) for keys, values in buffers]
            at = prompt + index
            hidden = self._forward(token[:, None], places + index, known[..., : at + 1], buffers, at)[:, -1]
        return torch.cat([asked, _cut(made[:, : index + 1], end, pad)], 1)

    def _read(self, asked: Tensor, real: Tensor, length: int) -> tuple[Tensor, Buffers]:
        """Read the prompts: the last hidden state of each, and buffers with room for `length` tokens."""
        distinct, back = torch.unique_consecutive(asked, dim=0, return_inverse=True)
        first = torch.searchsorted(back, torch.arange(len(distinct)))
        mask, size = real[first], asked.shape[1]
        attention = self.model.layers[0].self_attn
        shape = (len(distinct), self.config.num_key_value_heads, size, attention.head_dim)
        weights = self.lm_head.weight
        buffers = [(weights.new_zeros(shape), weights.new_zeros(shape)) for _ in self.model.layers]
        seen = torch.ones(size, size).tril().bool() & mask[:, None, None] | torch.eye(size).bool()
        places = (mask.cumsum(1) - 1).clamp(min=0)
        hidden = self._forward(distinct, places, seen, buffers, 0)[:, -1]
        room = (0, 0, 0, length)
        return hidden[back], [tuple(functional.pad(part[back], room) for part in pair) for pair in buffers]  # type: ignore[misc]

    def _forward(self, ids: Tensor, places: Tensor, seen: Tensor, buffers: Buffers, at: int) -> Tensor:
        """Hidden states [B, T, W] of tokens at position `at` of the buffers; `seen` is the attention mask."""
        x = self.model.embed_tokens(ids)
        batch, size, _ = x.shape
        turned = self.model.rotary_emb(x, places)
        for layer, (keys, values) in zip(self.model.layers, buffers, strict=True):
            attention, h = layer.self_attn, layer.input_layernorm(x)
            projections = (attention.q_proj, attention.k_proj, attention.v_proj)
            q, k, v = (one(h).view(batch, size, -1, attention.head_dim).transpose(1, 2) for one in projections)
            q, keys[:, :, at : at + size] = apply_rotary_pos_emb(q, k, *turned)
            values[:, :, at : at + size] = v
            end = at + size
            read = _attend(q, keys[:, :, :end], values[:, :, :end], seen)
            x = x + attention.o_proj(read)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        normed: Tensor = self.model.norm(x)
        return normed

    @staticmethod
    def _draw(logits: Tensor, sample: bool | None) -> Tensor:
        return torch.multinomial(logits.softmax(-1), 1)[:, 0] if sample else logits.argmax(-1)


class FastQwen2(FastSampling, Qwen2ForCausalLM):  # type: ignore[misc]
    """See the module's docstring."""


class FastLlama(FastSampling, LlamaForCausalLM):  # type: ignore[misc]
    """See the module's docstring."""


def computing(policy: Any) -> AbstractContextManager[Any]:
    """The precision in which a policy computes."""
    return torch.autocast("cpu", torch.bfloat16, enabled=isinstance(policy, FastSampling) and policy.bfloat16)


def _attend(q: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """What heads read, [B, T, W]; several heads may share their keys. One token's keys are not copied for it."""
    batch, heads, size, width = q.shape
    if size == 1:
        q = q.view(batch, keys.shape[1], -1, width)
    read = functional.scaled_dot_product_attention(q, keys, values, attn_mask=seen, enable_gqa=size > 1)
    return read.reshape(batch, heads, size, width).transpose(1, 2).reshape(batch, size, -1)


def _cut(made: Tensor, end: int, pad: int) -> Tensor:
    """Replace what follows the first `end` of each row by `pad`."""
    after = made.eq(end).cumsum(1) - made.eq(end).long() > 0
    return made.masked_fill(after, pad)
