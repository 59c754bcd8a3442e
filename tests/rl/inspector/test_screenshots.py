"""The script that makes the pictures of the documentation works, and those that are committed are small."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memstore_rl.inspector.label_queue import entry_of

from .conftest import make_memory, query_with

ROOT = Path(__file__).resolve().parents[3]
MAX_BYTES = 160_000


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """docs/make_screenshots.py."""
    spec = importlib.util.spec_from_file_location("make_screenshots", ROOT / "docs" / "make_screenshots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pictures_are_made(script: ModuleType, browser: Any, tmp_path: Path) -> None:
    with make_memory(tmp_path) as memory:
        queue = [entry_of({"query_id": query_with(memory, "Mia has 4")})]
        shots = script.shots(script.split_query(memory))
        with script.served(memory, queue) as address:
            written = script.shoot(browser, address, shots, tmp_path)
    page = (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8")
    assert [path.name for path in written] == [f"inspect_{shot.name}.png" for shot in shots]
    for path in written:
        assert 10_000 < path.stat().st_size < MAX_BYTES
        assert (ROOT / "docs" / "images" / path.name).stat().st_size < MAX_BYTES
        assert f"](images/{path.name})" in page
