"""docs/settings.md lists every setting of the class, and memstore reads its example."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from memstore.locations.location import FolderLocation, ServerLocation, resolve_location
from memstore.locations.profiles import Profile
from memstore.locations.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "settings.md").read_text(encoding="utf-8")


def test_table_equals_the_settings_class(load_script: Callable[[str], ModuleType]) -> None:
    table = load_script("make_pages").settings_table()
    assert f"<!-- settings -->\n{table}<!-- /settings -->" in PAGE, "run docs/make_pages.py"
    for name in Settings.model_fields:
        assert f"| `MEMSTORE_{name.upper()}` |" in table


def test_profile_takes_only_settings_of_servers() -> None:
    without_variables = {name for name in Profile.model_fields if not name.endswith("_env")}
    assert without_variables <= set(Settings.model_fields)


def test_example_is_read_as_the_page_describes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith("MEMSTORE_")]:
        monkeypatch.delenv(key)
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example
    (tmp_path / "memstore.toml").write_text(example[1])
    secret = tmp_path / ".config" / "memstore" / "lab-password"
    secret.parent.mkdir(parents=True)
    secret.write_text("a-password\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAB_MILVUS_TOKEN", "a-token")
    monkeypatch.chdir(tmp_path)
    lab = resolve_location("lab", Settings())
    assert isinstance(lab, ServerLocation)
    assert lab.neo4j_password.get_secret_value() == "a-password"
    assert lab.milvus_token is not None
    assert lab.milvus_token.get_secret_value() == "a-token"
    small = resolve_location("small", Settings())
    assert isinstance(small, FolderLocation)
    assert small.folder == tmp_path / "memories" / "small"
