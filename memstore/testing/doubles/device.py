"""A stand-in for a GPU: tensors of a second device that hold their values on the CPU and mix with nothing else.

It finds what fails on a GPU without one: an operation on tensors of two devices, and `numpy()` on a tensor of the
device. The results are those of the CPU. It says nothing about the kernels, the memory or the speed of a real GPU.

The device is torch's `meta`, which every build of torch knows and whose tensors have no values otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = "meta"
_INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}
"""Operations that accept indices of the CPU for a tensor of a GPU."""
_COPYING = {"aten::_to_copy", "aten::copy_"}


@contextmanager
def second_device() -> Iterator[str]:
    """Give the device `meta` values, in this thread; yields its name.

    Example:
        >>> with second_device() as device:
        ...     torch.ones(2, device=device).cpu().tolist()
        [1.0, 1.0]
    """
    # Otherwise a module keeps its parameters and exchanges their data, which loses the type of the tensor.
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _SecondDevice():  # type: ignore[no-untyped-call]
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


class _OnDevice(torch.Tensor):
    """A tensor of the device; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> _OnDevice:
        with torch.inference_mode(False):  # a view of a tensor from outside of inference mode needs a version counter
            made: _OnDevice = torch.Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=torch.device(DEVICE),
            )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _SecondDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs what creates tensors on the device."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


def _run(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
    ours = [each for each in tensors if isinstance(each, _OnDevice)]
    target = kwargs.get("device")
    on_device = bool(ours) if target is None else torch.device(target).type == DEVICE
    name = func._schema.name  # type: ignore[attr-defined]
    if name == "aten::copy_":
        on_device = isinstance(args[0], _OnDevice)
    if ours:
        _check(name, args, tensors)
    if target is not None:
        kwargs["device"] = torch.device("cpu")
    wrapper_of = {id(each.held): each for each in ours}
    found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if name == "aten::_to_copy" and on_device != bool(ours):
        found = found.clone()

    def wrapped(value: Any) -> Any:
        if not on_device or not isinstance(value, torch.Tensor):
            return value
        known = wrapper_of.get(id(value))
        return _OnDevice(value) if known is None else known

    return tree_map(wrapped, found)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, _OnDevice) else value


def _check(name: str, args: tuple[Any, ...], tensors: list[torch.Tensor]) -> None:
    """Refuse what a GPU refuses; a number in a tensor of the CPU mixes with any device."""
    if name in _COPYING:
        return
    if name in _INDEXING and isinstance(args[0], _OnDevice):
        tensors = [args[0], *[each for each in args[2:] if isinstance(each, torch.Tensor)]]
    if any(not isinstance(each, _OnDevice) and each.dim() for each in tensors):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found {DEVICE} and cpu")
