"""The stand-in for a GPU refuses what a GPU refuses, and computes what the CPU computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memstore.testing.doubles.device import second_device


def test_tensors_of_two_devices_do_not_mix() -> None:
    with second_device() as device:
        ours = torch.ones(3, 4, device=device)
        with pytest.raises(RuntimeError, match="same device"):
            ours @ torch.ones(4, 2)
        with pytest.raises(RuntimeError, match="same device"):
            torch.nn.functional.embedding(torch.zeros(2, dtype=torch.int64), ours)
        assert (ours + torch.tensor(1.0)).device.type == "meta"


def test_numpy_reads_only_the_cpu() -> None:
    with second_device() as device:
        ours = torch.from_numpy(np.arange(3.0)).to(device)
        with pytest.raises((RuntimeError, TypeError), match="numpy"):
            ours.numpy()
        assert ours.cpu().numpy().tolist() == [0.0, 1.0, 2.0]


def test_views_and_indices_of_the_cpu_write_to_the_tensor() -> None:
    with second_device() as device:
        ours = torch.zeros(2, 3, device=device)
        ours[:, 2:] = -1.0
        ours[torch.tensor([0]), torch.tensor([1])] = 5.0
        assert ours.cpu().tolist() == [[0.0, 5.0, -1.0], [0.0, 0.0, -1.0]]


def test_the_device_has_no_values_afterwards() -> None:
    with second_device() as device:
        assert torch.ones(2, device=device).sum().item() == 2
    with pytest.raises(RuntimeError, match="meta"):
        torch.ones(2, device=device).sum().item()
