"""`memstore export html` writes the page of a query, or the disagreements, of a memory or a snapshot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memstore.memory import Memory
from memstore.snapshots.files import save_snapshot
from memstore.testing.embedder import HashEmbedder
from memstore_cli.main import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `memory` and `snapshot`."""
    here = tmp_path_factory.mktemp("export")
    row = {"query": "What is 1 + 1?", "query_id": "one", "answer": "2", "thinking": "one and one", "domain": "math"}
    (here / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with Memory.open(here / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([here / "rows.jsonl"])
        save_snapshot(memory.snapshot(), here / "snapshot")
    return here


@pytest.mark.parametrize("name", ["memory", "snapshot"])
def test_pages_of_a_memory_and_a_snapshot(
    folder: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, page = ["--memory", str(folder / name)], tmp_path / "page.html"
    assert run(["export", "html", "one", str(page), *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(page), "bytes": page.stat().st_size}
    assert "What is 1 + 1?" in page.read_text(encoding="utf-8")
    assert run(["export", "html", "--disagreements", str(page), *where]) == 1
    assert "--force" in capsys.readouterr().err
    assert run(["export", "html", "--disagreements", str(page), "--force", *where]) == 0
    assert capsys.readouterr().out.startswith(str(page))
    assert "No model has scored this memory" in page.read_text(encoding="utf-8")


def test_what_cannot_be_exported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--memory", str(folder / "memory")]
    assert run(["export", "html", "two", str(tmp_path / "page.html"), *where]) == 1
    assert "'two'" in capsys.readouterr().err
    assert run(["export", "html", str(tmp_path / "page.html"), *where]) == 2
    assert "pass a query and a file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
