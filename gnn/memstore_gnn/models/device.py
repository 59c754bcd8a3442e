"""Torch devices: choose one, run on one core, and report when a GPU runs out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock, local

import torch
from threadpoolctl import ThreadpoolController

from memstore.errors import ModelError


def pick_device(device: str | torch.device | None) -> torch.device:
    """Return the requested device, or by default a GPU if there is one and the CPU otherwise.

    Raises:
        ModelError: torch does not support the device on this machine.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"torch has no device {str(device)!r} here; use cpu") from error
    return chosen


@contextmanager
def device_memory(work: str) -> Iterator[None]:
    """Raise ModelError if the device runs out of memory during `work` (`training`, `scoring 800 rollouts`)."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(f"the GPU ran out of memory while {work}; free some of it, or pass --device cpu") from error


class _TorchThreads:
    """One core for torch in the threads that ask for it, and as many as before once they leave.

    Each thread has a limit of its own, and a new thread begins with the one that was set last. So only the first thread
    to come can tell what it was before.
    """

    def __init__(self) -> None:
        self._lock, self._own = Lock(), local()
        self._callers, self._before = 0, 1

    def enter(self) -> None:
        with self._lock:
            if not self._callers:
                self._before = torch.get_num_threads()
            self._callers += 1
        self._own.depth = getattr(self._own, "depth", 0) + 1
        torch.set_num_threads(1)

    def leave(self) -> None:
        with self._lock:
            self._callers -= 1
        self._own.depth -= 1
        if not self._own.depth:
            torch.set_num_threads(self._before)


_TORCH = _TorchThreads()


@contextmanager
def one_core() -> Iterator[None]:
    """Limit each CPU operation of torch, BLAS and OpenMP to one core; also works as a decorator.

    The operations here are small. Spread over several cores, each waits for the slowest core (ten times as long on a
    busy machine), and sums are split differently from run to run, so that one seed gives two models. Independent
    calculations (`memstore.runtime.threads`) still have a core each.

    Several threads may be inside at a time. The limit of BLAS is the process's: it ends when the thread that came first
    leaves. Afterwards everything is as before.
    """
    _TORCH.enter()
    try:
        with _thread_pools().limit(limits=1):
            yield
    finally:
        _TORCH.leave()


@cache
def _thread_pools() -> ThreadpoolController:
    """The libraries' thread pools. Finding them takes milliseconds, so it is done once."""
    return ThreadpoolController()
