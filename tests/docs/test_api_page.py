"""docs/api.md equals what docs/make_api.py makes of the docstrings; the examples there and in the README run.

An example runs in a folder with a small memory `my-memory` and the files `rollouts.jsonl` and `new.jsonl`. It may use
the names that the fixture `names` defines. The address http://127.0.0.1:8731 is replaced by that of a running service.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib
import importlib.util
import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn

from memstore.memory import Memory
from memstore.sample import sample_path
from memstore_gnn.verbs import train_memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.service.app import make_app
from memstore_rl.service.journal import Journal
from memstore_rl.service.service import RewardService

DOCS = Path(__file__).resolve().parents[2] / "docs"
PUBLIC = (
    "Memory", "CypherResult", "Snapshot", "to_pandas", "to_hetero", "GroupScorer", "RewardClient", "reward_function",
)  # fmt: skip
ADDRESS = "http://127.0.0.1:8731"
QUERIES, ROLLOUTS = 12, 4


def make_api() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


API = make_api()


def test_page_is_up_to_date() -> None:
    assert API.PAGE.read_text(encoding="utf-8") == API.page(), "run docs/make_api.py"


@pytest.mark.parametrize("name", PUBLIC)
def test_page_has_a_section_on(name: str) -> None:
    assert f"\n### {name}\n" in API.page()


def test_every_public_name_has_a_docstring() -> None:
    named = [name for names in API.SECTIONS.values() for name in names]
    named += [f"{module}.{name}" for name, module in API.front_door_names().items()]
    assert [name for name in named if not API.docstring(API.find(name))] == []


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Some rollouts of the first queries of the sample."""
    kept: dict[str, list[dict[str, Any]]] = {}
    with gzip.open(sample_path(), "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if len(kept) < QUERIES or row["query_id"] in kept:
                kept.setdefault(row["query_id"], []).append(row)
    return [row for own in kept.values() for row in own[:ROLLOUTS]]


@pytest.fixture(scope="module")
def small_memory(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a closed memory that has a reward model, and the file that it was made from."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Memory.open(folder / "my-memory", create=True) as memory:
        memory.ingest([folder / "rollouts.jsonl"])
        train_memory(memory, epochs=1, device="cpu")
    return folder


@pytest.fixture
def names(rows: list[dict[str, Any]], small_memory: Path, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Names that an example may use: an open memory, its snapshot, a scorer, a group and its parts."""
    shutil.copytree(small_memory / "my-memory", tmp_path / "open-memory")
    text = rows[0]["query"]
    rollouts = [Rollout(response=row["response"], policy="new") for row in rows[:ROLLOUTS]]
    query = RewardQuery(text, dataset="arithmetic", domain="math", gold=None)
    group = Group(query, rollouts)
    with Memory.open(tmp_path / "open-memory") as memory, GroupScorer(None, mode="budget") as scorer:
        yield {
            "memory": memory, "snapshot": memory.snapshot(), "scorer": scorer, "group": group, "groups": [group],
            "query": query, "text": text, "rollouts": rollouts,
            "RewardQuery": RewardQuery, "Rollout": Rollout, "Group": Group, "Memory": Memory,
            "GroupScorer": GroupScorer,
        }  # fmt: skip


@pytest.fixture
def service(names: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    """The address of a reward service that rewards labelled groups."""
    with contextlib.closing(Journal(tmp_path / "journal.sqlite")) as journal:
        app = make_app(RewardService(names["scorer"], journal), token=None, info=lambda: {"model": None})
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(200)


@pytest.mark.parametrize("example", API.examples(), ids=lambda example: example.owner)
def test_example_runs(
    example: Any,
    names: dict[str, Any],
    small_memory: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(small_memory, tmp_path / "here")
    shutil.copy(small_memory / "rollouts.jsonl", tmp_path / "here" / "new.jsonl")
    monkeypatch.chdir(tmp_path / "here")
    code = example.code
    if ADDRESS in code:
        code = code.replace(ADDRESS, request.getfixturevalue("service"))
    module = importlib.import_module(example.module)
    exec(compile(code, example.owner, "exec"), {**vars(module), **names})


def test_python_example_of_the_readme_runs(small_memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (DOCS.parent / "README.md").read_text("utf-8"), re.M | re.S)
    shutil.copytree(small_memory, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["data"]["thinking"].num_nodes == QUERIES * ROLLOUTS
