"""A page as one file: a browser that opens it sends no request, runs nothing of a model and finds no violation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore_rl.inspector.export import export_disagreements, export_query, find_query
from memstore_rl.inspector.source import Source
from memstore_schema.columns import NodeLabel

from .conftest import SCRIPT, query_with
from .test_pages_in_a_browser import Tab


def check_file(browser: Any, path: Path, **options: Any) -> Any:
    """Open a file in a browser of its own; nothing but the file is read."""
    context = browser.new_context(**options)
    tab = Tab(context, path.as_uri())
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    page = tab.open("")
    page.wait_for_load_state("networkidle")
    tab.check()
    assert [address for address in asked if not address.startswith("data:")] == [path.as_uri()]
    return page


@pytest.mark.parametrize("text", ["Mia has 3", "1 + 1", "كم"])
def test_a_query_in_a_browser(browser: Any, looked_at: Memory, source: Source, tmp_path: Path, text: str) -> None:
    path, query = tmp_path / "page #1.html", query_with(looked_at, text)
    done = export_query(source, query, path)
    assert (done.path, done.bytes) == (str(path), path.stat().st_size)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert SCRIPT not in (written := path.read_text(encoding="utf-8"))
    assert re.findall(r'(?:href|src)="(?!data:,|#)[^"]*"', written.partition("<script>")[0]) == []
    for options in ({"viewport": {"width": 1280, "height": 900}}, {"viewport": {"width": 360, "height": 800}}):
        page = check_file(browser, path, **options, color_scheme="dark" if options["viewport"]["width"] < 400 else None)
        assert query in page.inner_text("h1")
        assert page.locator(".column").count() == 3
        page.context.close()


def test_formulas_with_and_without_scripts(browser: Any, looked_at: Memory, source: Source, tmp_path: Path) -> None:
    export_query(source, query_with(looked_at, "Mia has 3"), tmp_path / "page.html")
    page = check_file(browser, tmp_path / "page.html")
    assert page.locator(".question math").count() == 2
    page.context.close()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert r"\frac{1}{2}" in page.inner_text(".question")
    context.close()


def test_disagreements_in_a_browser(browser: Any, looked_at: Memory, source: Source, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    export_disagreements(source, path, limit=1)
    page = check_file(browser, path)
    text = page.inner_text("main")
    assert "the 1 largest are listed" in text
    assert "Only one model has scored this memory" in text
    assert query_with(looked_at, "1 + 1") in text or query_with(looked_at, "Mia has 3") in text
    assert len(path.read_bytes()) < 50_000, "KaTeX is in a file that has no formula"
    page.context.close()


def test_a_query_is_found_by_id_key_and_text(looked_at: Memory, source: Source) -> None:
    query = query_with(looked_at, "Mia has 4")
    text = looked_at.graph.nodes(NodeLabel.QUERY, ["text"], ids=[query])["text"][0].as_py()
    for name in (query, query[:12], "key-1", text):
        assert find_query(source, name) == query
    with pytest.raises(InputError, match="nothing"):
        find_query(source, "nothing like this")


def test_a_file_is_overwritten_only_when_forced(looked_at: Memory, source: Source, tmp_path: Path) -> None:
    path, query = tmp_path / "page.html", query_with(looked_at, "Mia has 4")
    path.write_text("mine")
    with pytest.raises(InputError, match="--force"):
        export_query(source, query, path)
    assert path.read_text() == "mine"
    export_query(source, query, path, force=True)
    assert query in path.read_text(encoding="utf-8")
    with pytest.raises(InputError, match="is a folder"):
        export_disagreements(source, tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        export_disagreements(source, tmp_path / "none" / "page.html")
