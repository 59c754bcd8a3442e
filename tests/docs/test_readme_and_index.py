"""The README stays short and current, the index reaches every page, and generated parts equal their source."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^()\s#]+)")

LoadScript = Callable[[str], ModuleType]


def test_readme_has_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


def test_readme_shows_picture_install_and_first_command_within_one_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:30])
    assert "docs/images/memory.svg" in first_screen
    assert "\nmake demo" in first_screen
    assert "\n$ memstore train" in first_screen


def test_readme_summary_of_the_reward_model_equals_the_measured_mean() -> None:
    (mean,) = re.findall(r"^\| \*\*mean\*\* (\|.*)$", (DOCS / "measured.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"| AUC / advantage {mean}" in README


def test_readme_excerpt_equals_the_transcript_of_the_demo(load_script: LoadScript) -> None:
    excerpt = load_script("make_pages").demo_excerpt()
    assert f"<!-- demo -->\n{excerpt}<!-- /demo -->" in README, "run docs/make_pages.py"


def test_schema_tables_equal_the_declared_columns(load_script: LoadScript) -> None:
    table = load_script("make_pages").schema_table()
    page = (DOCS / "schema.md").read_text(encoding="utf-8")
    assert f"<!-- schema -->\n{table}<!-- /schema -->" in page, "run docs/make_pages.py"


def test_picture_equals_what_its_script_draws(load_script: LoadScript) -> None:
    images = load_script("make_images")
    assert images.IMAGE.read_text(encoding="utf-8") == images.picture(), "run docs/make_images.py"


def linked_from_index() -> set[Path]:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    return {(DOCS / target).resolve() for target in LINK.findall(index) if "://" not in target}


@pytest.mark.parametrize(
    "page",
    sorted({*DOCS.rglob("*.md"), *(ROOT / "docker").rglob("*.md"), *(ROOT / "examples").rglob("*.md")}),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_index_links_every_page(page: Path) -> None:
    assert page == DOCS / "index.md" or page in linked_from_index()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "research/README.md"])
def test_index_links_pages_outside_docs(name: str) -> None:
    assert ROOT / name in linked_from_index()


def test_changelog_names_modules_that_exist() -> None:
    table = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("#### Moved modules")[1].split("\n## ")[0]
    column = " ".join(re.findall(r"^\| `.*\| (.*) \|$", table, re.MULTILINE))
    new = re.findall(r"`(memstore[\w.]*)`", column)
    assert len(new) > 50
    folders = {"memstore": ROOT, "memstore_gnn": ROOT / "gnn", "memstore_rl": ROOT / "rl"}
    paths = {name: folders[name.split(".")[0]].joinpath(*name.split(".")) for name in new}
    assert [name for name, path in paths.items() if not path.is_dir() and not path.with_suffix(".py").is_file()] == []
