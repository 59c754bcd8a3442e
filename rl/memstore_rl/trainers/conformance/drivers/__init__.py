"""Drivers of hooks, one a module; `DRIVERS` names them as `memstore hook check` takes them."""

from __future__ import annotations

from importlib import import_module

from memstore.errors import InputError
from memstore_rl.trainers.conformance.driver import HookDriver

DRIVERS = (
    "generic",
    "verl",
    "verl_batch",
    "trl",
    "slime",
    "miles",
    "openrlhf",
    "art",
    "skyrl",
    "tinker_cookbook",
    "nemo_rl",
    "areal",
)
"""Names of the modules; a hyphen of a trainer's name is an underscore here."""


def driver_of(trainer: str) -> HookDriver:
    """Return the driver of a trainer.

    Raises:
        InputError: there is none, or it needs the trainer, which is not installed.
    """
    name = trainer.replace("-", "_")
    if name not in DRIVERS:
        known = ", ".join(known.replace("_", "-") for known in DRIVERS)
        raise InputError(f"there is no hook for {trainer!r}; the trainers are {known}")
    driver: HookDriver = import_module(f"{__name__}.{name}").Driver()
    return driver
