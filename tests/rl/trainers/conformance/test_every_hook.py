"""Every hook passes the conformance suite, driven as its trainer drives it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from memstore.errors import InputError
from memstore_rl.trainers.conformance.checks import CHECKS, Bench
from memstore_rl.trainers.conformance.drivers import DRIVERS, driver_of
from memstore_rl.trainers.conformance.service import NotingService

INSTALLED = os.environ.get("MEMSTORE_TEST_TRAINERS", "").split()
"""Trainers whose own classes must drive their hooks."""


@pytest.fixture(scope="module")
def service() -> Iterator[NotingService]:
    with NotingService() as running:
        yield running


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("trainer", DRIVERS)
def test_hook_conforms(trainer: str, check: str, service: NotingService) -> None:
    driver = driver_of(trainer)
    assert driver.trainer.replace("-", "_") == trainer
    assert driver.against
    assert CHECKS[check](Bench(driver, service))


@pytest.mark.skipif(not INSTALLED, reason="make test-hooks installs trainers")
@pytest.mark.parametrize("trainer", INSTALLED)
def test_installed_trainer_is_driven_with_its_own_classes(trainer: str) -> None:
    assert "own" in driver_of(trainer).against


def test_unknown_trainer_is_refused() -> None:
    with pytest.raises(InputError, match=r"there is no hook for 'nobody'; the trainers are generic"):
        driver_of("nobody")
