"""Fixtures of the reward model's tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from memstore.snapshot import Snapshot


@pytest.fixture(scope="session")
def snapshots() -> ModuleType:
    """The module beside this file, which builds snapshots from plain rows."""
    path = Path(__file__).parent / "snapshots.py"
    spec = importlib.util.spec_from_file_location("gnn_test_snapshots", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build_snapshot(snapshots: ModuleType) -> Callable[..., Snapshot]:
    return snapshots.build_snapshot
