"""Evaluate the networks of a model together, with `torch.func.vmap` over their stacked weights.

A group of eight rollouts is so small that its cost is the number of torch operations, so five networks in a loop take
five times as long. The weights are copied: the ensemble does not follow later training of the networks.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from memstore_gnn.models.network import GroupTensors, KeyValues, LabelledKeyValues, RewardNetwork


class _Correction(nn.Module):
    """A network's correction of groups, given keys and values of the labelled nodes."""

    def __init__(self, network: RewardNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, groups: GroupTensors, labelled: LabelledKeyValues) -> Tensor:
        return self.network.correct(groups, self.network.encode(groups), labelled)


class Ensemble:
    """Networks of the same shape, each with its keys and values of the labelled nodes.

    Args:
        networks: at least one, in eval mode.
        labelled: keys and values of each network.
    """

    def __init__(self, networks: Sequence[RewardNetwork], labelled: Sequence[LabelledKeyValues]) -> None:
        corrections = [_Correction(network) for network in networks]
        self._weights: Any = stack_module_state(corrections)
        self._labelled = LabelledKeyValues(
            _stacked([one.thinking for one in labelled]), _stacked([one.query for one in labelled])
        )
        self._shape = copy.deepcopy(corrections[0]).to("meta")

    def correct(self, groups: GroupTensors) -> Tensor:
        """Correction of each rollout's logit by each network, float32 [networks, T]."""

        def one(weights: Any, labelled: LabelledKeyValues) -> Tensor:
            return functional_call(self._shape, weights, (groups, labelled))

        return vmap(one)(self._weights, self._labelled)


def _stacked(parts: Sequence[KeyValues]) -> KeyValues:
    return KeyValues(*(torch.stack(tensors) for tensors in zip(*parts, strict=True)))
