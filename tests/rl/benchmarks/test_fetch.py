"""Load every benchmark with the `datasets` library from a local server that implements the hub's API.

The server implements the requests that the library sends: a repository's files by name and revision, its listing, and
the header of a file. It serves every benchmark under the name, configuration and revision of its declaration only.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from memstore_rl.benchmarks import Declaration, benchmarks, questions

COMMIT = "0123456789abcdef" * 2 + "01234567"
LOAD = """
import json, sys
from memstore_rl.benchmarks import cached, benchmarks, questions
found = {name: sorted(question.id for question in questions(name)) for name in sys.argv[1:]}
print(json.dumps({"questions": found, "cached": [name for name in benchmarks() if cached(benchmarks()[name])]}))
"""


class Hub(ThreadingHTTPServer):
    """An HTTP server for a folder of repositories, each at one revision."""

    def __init__(self, root: Path, revisions: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.root, self.revisions = root, revisions


class HubRequest(BaseHTTPRequestHandler):
    """Handles one request to the hub."""

    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path).strip("/")
        api, _, rest = path.partition("datasets/")
        repository, _, requested = rest.partition("/")
        name, _, requested = requested.partition("/")
        repository = f"{repository}/{name}"
        if repository not in self.server.revisions:
            return self.respond(404, X_Error_Code="RepoNotFound")
        folder, revision = self.server.root / repository, self.server.revisions[repository]
        kind, _, below = requested.partition("/")
        known = next((start for start in (revision, COMMIT) if f"{below}/".startswith(f"{start}/")), None)
        if requested and known is None:
            return self.respond(404, X_Error_Code="RevisionNotFound")
        below = below.removeprefix(known or "").strip("/")
        if not api:
            return self.file(folder / below)
        return self.respond(200, json.dumps(listing(folder, below) if kind == "tree" else about(repository)).encode())

    do_HEAD = do_GET

    def file(self, path: Path) -> None:
        if not path.is_file():
            return self.respond(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        content = path.read_bytes()
        return self.respond(200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=COMMIT)

    def respond(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print no log lines."""


def about(repository: str) -> dict[str, Any]:
    return {"id": repository, "sha": COMMIT, "private": False, "gated": False, "siblings": [], "tags": []}


def listing(folder: Path, below: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder / below).rglob("*")):
        kind = {"type": "file", "size": path.stat().st_size} if path.is_file() else {"type": "directory", "size": 0}
        found.append(
            kind | {"oid": hashlib.sha1(str(path).encode()).hexdigest(), "path": str(path.relative_to(folder))}
        )
    return found


def publish(declared: Declaration, copies: Path, root: Path) -> None:
    """Publish a copy in its repository's layout: converted tables of a script, or files listed in a dataset card."""
    repository = root / declared.source
    config = declared.config or "default"
    source = copies / declared.source
    source = source if source.is_dir() else copies / declared.name
    for split in declared.splits:
        [path] = [path for path in source.rglob("*.*") if path.name.startswith((f"{split}-", f"{config}.csv"))]
        below = f"{config}/{split}/0000{path.suffix}" if declared.revision else f"{config}/{path.name}"
        (repository / below).parent.mkdir(parents=True, exist_ok=True)
        (repository / below).write_bytes(path.read_bytes())
    if not declared.revision:
        files = [
            {"split": split, "path": f"{config}/*{split if len(declared.splits) > 1 else ''}*"}
            for split in declared.splits
        ]
        card = json.dumps({"configs": [{"config_name": config, "data_files": files}]})
        (repository / "README.md").write_text(f"---\n{card}\n---\n", encoding="utf-8")


@pytest.fixture(scope="module")
def hub(copies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a hub with all benchmarks."""
    root = tmp_path_factory.mktemp("hub")
    for declared in benchmarks().values():
        publish(declared, copies, root)
    revisions = {declared.source: declared.revision or "main" for declared in benchmarks().values()}
    with Hub(root, revisions) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def loaded(home: Path, **variables: str) -> Any:
    """The questions loaded in a new process; the library reads the hub's address only once."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MEMSTORE_", "HF_"))}
    environment = {**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **variables}
    command = [sys.executable, "-c", LOAD, *benchmarks()]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_benchmarks_load_from_a_hub_and_then_from_the_cache(hub: str, copies: Path, tmp_path: Path) -> None:
    expected = {name: sorted(question.id for question in questions(name, folder=copies)) for name in benchmarks()}
    first = loaded(tmp_path, HF_ENDPOINT=hub)
    assert first["questions"] == expected
    assert first["cached"] == list(benchmarks())
    assert loaded(tmp_path, HF_HUB_OFFLINE="1") == first
