"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def no_terminal_width() -> None:
    """Printed tables are as wide as in a pipe: pytest-xdist gives its workers a width of its own."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real rollouts that stands beside the project's; see its README."""
    folder = Path(os.environ.get("MEMSTORE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if (folder / "rollouts").is_dir():
        return folder
    reason = f"no real rollouts at {folder}; set MEMSTORE_TEST_DATA to their folder"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
