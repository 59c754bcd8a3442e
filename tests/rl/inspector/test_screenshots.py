"""The script that makes the pictures of the documentation works, and those that are committed are small."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memstore.memory import Memory

ROOT = Path(__file__).resolve().parents[3]
MAX_BYTES = 150_000


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """docs/make_screenshots.py."""
    spec = importlib.util.spec_from_file_location("make_screenshots", ROOT / "docs" / "make_screenshots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pictures_are_made(script: ModuleType, browser: Any, pages: str, looked_at: Memory, tmp_path: Path) -> None:
    written = script.shoot(browser, pages, script.split_query(looked_at), tmp_path)
    assert [path.name for path in written] == ["inspect_memory.png", "inspect_query.png", "inspect_cypher.png"]
    for path in written:
        assert 10_000 < path.stat().st_size < MAX_BYTES
        assert (ROOT / "docs" / "images" / path.name).stat().st_size < MAX_BYTES
