"""The memory of schema 1 that the tests of the migration convert."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

SCHEMA_1 = Path(__file__).parent / "schema1"


def unpacked(name: str, folder: Path) -> Path:
    """A copy of `memory` or `snapshot` of schema 1 in a folder."""
    with tarfile.open(SCHEMA_1 / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / name


@pytest.fixture(scope="session")
def schema_1() -> Path:
    """The folder of the files of schema 1."""
    return SCHEMA_1


@pytest.fixture
def old_memory(tmp_path: Path) -> Path:
    """The folder of a memory of schema 1."""
    return unpacked("memory", tmp_path)


@pytest.fixture
def old_snapshot(tmp_path: Path) -> Path:
    """The folder of a snapshot of schema 1."""
    return unpacked("snapshot", tmp_path)
