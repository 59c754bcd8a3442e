"""`memstore inspect` serves the pages of a memory or a snapshot until it is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from memstore.labels.journal import Journal
from memstore.memory import Memory
from memstore.snapshots.files import save_snapshot
from memstore.testing.embedder import HashEmbedder
from memstore_schema.columns import NodeLabel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `memory` and `snapshot`."""
    here = tmp_path_factory.mktemp("inspect")
    row = {"query": "What is 1 + 1?", "answer": "2", "thinking": "one and one", "domain": "math"}
    (here / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with Memory.open(here / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([here / "rows.jsonl"])
        save_snapshot(memory.snapshot(), here / "snapshot")
    return here


@contextmanager
def inspecting(*arguments: str | Path, **variables: str) -> Iterator[str]:
    """Run `memstore inspect` on a free port; yields the address of the pages, and stops it."""
    with started(*arguments, **variables) as (address, process):
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0


@contextmanager
def started(*arguments: str | Path, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `memstore inspect` on a free port; yields the address of the pages and the process, and kills it."""
    program = "import sys; from memstore_cli.main import main; sys.argv = sys.argv[1:]; main()"
    options = [*map(str, arguments), "--port", "0", "--json"]
    command = [sys.executable, "-c", program, "memstore", "inspect", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | variables, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["endpoint"], process
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["memory", "snapshot"])
def test_the_pages_of_a_memory_and_a_snapshot(folder: Path, name: str) -> None:
    with inspecting(folder / name) as address:
        assert address.endswith("/inspect/")
        found = httpx.get(f"{address}queries", params={"search": "1 + 1"})
        assert "What is 1 + 1?" in found.text
        assert ("read-only" in found.text) == (name == "snapshot")


def test_a_token_of_the_environment_is_asked_for(folder: Path) -> None:
    with inspecting("--read-only", "--memory", folder / "memory", MEMSTORE_SERVICE_TOKEN="secret") as address:
        assert httpx.get(address).headers["location"].startswith("/inspect/login")
        assert httpx.post(f"{address}login", data={"token": "secret"}).status_code == 303


def test_a_killed_service_loses_no_label(tmp_path: Path) -> None:
    rows = [{"query": "What is 1 + 1?", "answer": answer, "thinking": "hm", "domain": "math"} for answer in "23"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        query = memory.graph.nodes(NodeLabel.QUERY, ["id"])["id"][0].as_py()
    (tmp_path / "queue.jsonl").write_text(json.dumps({"query_id": query}), encoding="utf-8")
    arguments = (tmp_path / "memory", "--queue", tmp_path / "queue.jsonl")
    with started(*arguments) as (address, process), httpx.Client(follow_redirects=True) as web:
        form = {"csrf": csrf_of(web.get(f"{address}queue").text), "name": "Ana", "query": query, "key": "x1"}
        page = web.post(f"{address}queue/name", data=form).text
        assert "What is 1 + 1?" in page
        form |= dict(re.findall(r'type="hidden" name="(shown|state)" value="([^"]+)"', page))
        assert "1 rollout labelled" in web.post(f"{address}queue/press", data=form).text
        process.kill()
        process.wait(200)
        with inspecting(*arguments) as again:  # the page that was open sends its form to the new service
            assert "1 rollout labelled" in web.post(f"{again}queue/press", data=form | {"key": "x2"}).text
    with Memory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        assert memory.graph.nodes(NodeLabel.THINKING, ["reward"])["reward"].to_pylist() == [0.0, 0.0]
        assert [batch.by for batch in Journal(memory.folder).batches()] == ["Ana", "Ana"]


def csrf_of(page: str) -> str:
    """The token of a page's forms."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_what_cannot_be_inspected(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from memstore_cli.main import run

    assert run(["inspect", str(tmp_path / "nothing")]) == 1
    assert "nothing" in capsys.readouterr().err
    assert run(["inspect", str(folder / "snapshot"), "--host", "0.0.0.0"]) == 1
    assert "token" in capsys.readouterr().err
    assert run(["inspect", str(folder / "snapshot"), "--queue", str(tmp_path / "nothing")]) == 1
    assert "remove --queue" in capsys.readouterr().err
    assert run(["inspect", str(folder / "memory"), "--queue", str(tmp_path / "nothing")]) == 1
    assert "cannot read" in capsys.readouterr().err
