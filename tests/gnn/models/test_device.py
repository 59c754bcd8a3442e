"""Tests of the limit to one core."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from memstore_gnn.models.device import one_core


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    with threadpool_limits(2):
        torch.set_num_threads(2)
        yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_one_core_limits_torch_and_blas_and_restores_them() -> None:
    with one_core():
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert torch.get_num_threads() == 2
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {2}


@pytest.mark.parametrize("stays", ["first", "second"])
def test_threads_that_overlap_leave_everything_as_it_was(stays: str) -> None:
    """The first thread comes, the second comes, and one of the two leaves before the other."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    blas = [pool["num_threads"] for pool in threadpool_info()]
    come, may_leave = Event(), Event()

    def other() -> tuple[int, int]:
        with one_core(), one_core():
            come.set()
            assert may_leave.wait(60)
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(other)
        assert come.wait(60)
        with one_core():
            if stays == "second":
                may_leave.set()
                first.result(60)
            assert torch.get_num_threads() == 1
        may_leave.set()
        assert first.result(60) == (1, 2)
        assert torch.get_num_threads() == 2
        assert pool.submit(torch.get_num_threads).result(60) == 2
    assert [pool["num_threads"] for pool in threadpool_info()] == blas
    torch.set_num_threads(before)
