"""The networks of a model as one: their weights, and what they hold of a memory, are stacked; a batch passes once.

A group of eight is so small that what it costs is the number of operations; five networks in turn take five times as
many. Their arithmetic is `RewardNetwork`'s own, mapped over the stack (`torch.func.vmap`). Weights are copied: made for
networks that are trained.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from memstore_gnn.models.network import GroupTensors, Held, HeldMemory, RewardNetwork


class _Correction(nn.Module):
    """A network's correction of groups, as a function of what it holds of the memory."""

    def __init__(self, network: RewardNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, groups: GroupTensors, held: HeldMemory) -> Tensor:
        return self.network.correct(groups, self.network.encode(groups), held)


class Ensemble:
    """Networks of one shape, each with its memory."""

    def __init__(self, networks: Sequence[RewardNetwork], memories: Sequence[HeldMemory]) -> None:
        """`networks` are at least one, in eval mode."""
        corrections = [_Correction(network) for network in networks]
        self._weights: Any = stack_module_state(corrections)
        self._held = HeldMemory(_stacked([m.thinking for m in memories]), _stacked([m.query for m in memories]))
        self._shape = copy.deepcopy(corrections[0]).to("meta")

    def correct(self, groups: GroupTensors) -> Tensor:
        """Each network's correction of each rollout's logit, float32 [networks, T]."""

        def one(weights: Any, held: HeldMemory) -> Tensor:
            return functional_call(self._shape, weights, (groups, held))

        return vmap(one)(self._weights, self._held)


def _stacked(held: Sequence[Held]) -> Held:
    return Held(*(torch.stack(parts) for parts in zip(*held, strict=True)))
