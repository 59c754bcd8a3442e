"""GRPO in which the responses to a prompt share its computation, for a trainer on a CPU.

TRL reads each prompt once a response. Here a row holds the prompt and all its responses; each of them sees the prompt
and itself. The log probabilities are the same. Responses without an advantage are left out: they add nothing to the
loss or its gradient. With eight short responses to a prompt, a step takes about half of the time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from policy_learning_sampler import computing
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOTrainer

ROWS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages")
"""Inputs of the loss with a row for each response."""


class SharedPromptTrainer(GRPOTrainer):  # type: ignore[misc]
    """See the module's docstring."""

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        kept = inputs["advantages"] != 0 if self.beta == 0 else torch.ones_like(inputs["advantages"], dtype=torch.bool)
        kept[0] |= not kept.any()
        loss: Tensor = super()._compute_loss(model, {**inputs, **{name: inputs[name][kept] for name in ROWS}})
        return loss

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *unused: Any, **also: Any
    ) -> tuple[Tensor, Tensor, None]:
        policy = self.accelerator.unwrap_model(model)
        return *log_probabilities(policy, input_ids, attention_mask, logits_to_keep), None


class Packed(NamedTuple):
    """Rows of one prompt and its responses; response `i` is at `row[i], slot[i]`."""

    ids: Tensor
    """int64 [G, P + S * N]: a prompt with its padding at the left, then S responses."""
    places: Tensor
    """int64 [G, P + S * N]: the position of each token in its own prompt and response."""
    seen: Tensor
    """bool [G, 1, P + S * N, P + S * N]: the attention mask."""
    row: Tensor
    slot: Tensor


def log_probabilities(policy: PreTrainedModel, ids: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Log probability of each response token and the entropy at it, float32 [B, N]; 0 at padding.

    Args:
        policy: a causal language model with `model` and `lm_head`.
        ids: int64 [B, P + N], prompts padded at the left and responses padded at the right.
        mask: int64 [B, P + N], 0 at padding.
        length: N.
    """
    with computing(policy):
        return _log_probabilities(policy, pack(ids, mask, length), ids, mask, length)


def _log_probabilities(
    policy: PreTrainedModel, packed: Packed, ids: Tensor, mask: Tensor, length: int
) -> tuple[Tensor, Tensor]:
    prompt, real = ids.shape[1] - length, mask[:, -length:].bool()
    hidden = policy.model(packed.ids, attention_mask=packed.seen, position_ids=packed.places, use_cache=False)[0]
    responses = hidden[:, prompt:].unflatten(1, (-1, length))
    first = hidden[:, None, prompt - 1 : prompt].expand(-1, responses.shape[1], -1, -1)
    before = torch.cat([first, responses[:, :, :-1]], 2)[packed.row, packed.slot]
    logs = policy.lm_head(before[real]).float().log_softmax(-1)
    said, entropy = logs.new_zeros(real.shape), logs.new_zeros(real.shape)
    said[real] = logs.gather(1, ids[:, -length:][real][:, None])[:, 0]
    with torch.no_grad():
        entropy[real] = -(logs.exp() * logs).sum(-1)
    return said, entropy


def pack(ids: Tensor, mask: Tensor, length: int) -> Packed:
    """Bring the responses to equal prompts into one row."""
    prompt = ids.shape[1] - length
    distinct, row = torch.unique(ids[:, :prompt], dim=0, return_inverse=True)
    slot = torch.stack([(row[:index] == row[index]).sum() for index in range(len(row))])
    groups, slots = len(distinct), int(slot.max()) + 1
    responses = ids.new_zeros(groups, slots, length)
    real = torch.zeros(groups, slots, length, dtype=torch.bool)
    asked = torch.zeros(groups, prompt, dtype=torch.bool)
    responses[row, slot], real[row, slot] = ids[:, prompt:], mask[:, prompt:].bool()
    asked[row] = mask[:, :prompt].bool()
    owner = torch.cat([torch.zeros(prompt, dtype=torch.long), torch.arange(1, slots + 1).repeat_interleave(length)])
    whole = (owner[:, None] == owner) | (owner == 0)
    known = torch.cat([asked, real.flatten(1)], 1)
    size = len(owner)
    seen = whole.tril() & known[:, None] | torch.eye(size, dtype=torch.bool)
    at = asked.sum(1)[:, None, None] + torch.arange(length).expand(groups, slots, length)
    places = torch.cat([(asked.cumsum(1) - 1).clamp(min=0), at.flatten(1)], 1)
    return Packed(torch.cat([distinct, responses.flatten(1)], 1), places, seen[:, None], row, slot)
