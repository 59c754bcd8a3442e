"""Memories that an older splitter built still open, with a warning; those of a newer one are refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from memstore.errors import SchemaError
from memstore.memory import Memory
from memstore.testing.conformance.memory import SETTINGS
from memstore.text import OLDER_SPLITTERS, SPLITTER_VERSION


def built_with(folder: Path, splitter: str) -> None:
    """Make a memory that records this splitter."""
    with Memory.open(folder, create=True, settings=SETTINGS) as memory:
        memory.stores.graph.write_meta({"splitter": splitter})


@pytest.mark.parametrize("splitter", sorted(OLDER_SPLITTERS))
def test_a_memory_of_an_older_splitter_opens(tmp_path: Path, splitter: str, caplog: pytest.LogCaptureFixture) -> None:
    built_with(tmp_path / "m", splitter)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING), Memory.open(tmp_path / "m", settings=SETTINGS) as memory:
            assert memory.stores.splitter == splitter
        assert [f"splitter {splitter}" in record.getMessage() for record in caplog.records] == [True]


def test_a_memory_of_this_splitter_opens_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    built_with(tmp_path / "m", SPLITTER_VERSION)
    with caplog.at_level(logging.WARNING), Memory.open(tmp_path / "m", settings=SETTINGS):
        assert not caplog.records


def test_a_memory_of_a_newer_splitter_is_refused(tmp_path: Path) -> None:
    built_with(tmp_path / "m", "1000")
    with pytest.raises(SchemaError, match="built with splitter 1000"):
        Memory.open(tmp_path / "m", settings=SETTINGS)
