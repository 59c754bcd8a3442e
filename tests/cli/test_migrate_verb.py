"""`memstore migrate` converts a memory of schema 1, and says what it did."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstore.graph.ladybug import LadybugGraph

SCHEMA_1 = Path(__file__).parents[1] / "memstore" / "migration" / "schema1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a memory of schema 1."""
    with tarfile.open(SCHEMA_1 / "memory.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "memory"


def test_another_verb_names_the_command_and_this_one_converts(old: Path, command: Callable[..., Any]) -> None:
    refused = command("stats", "--memory", old)
    assert (refused.code, refused.out) == (1, "")
    assert "schema 1" in refused.err
    assert "memstore migrate" in refused.err
    done = command("migrate", "--memory", old)
    assert done.code == 0
    assert "queries: 10 before, 5 after" in done.out
    assert "2 reward models kept; queries have new ids, by which a label budget is drawn" in done.out
    assert f"the old graph is kept in {old / 'graph.schema1'}" in done.out
    stats = command("stats", "--memory", old, "--json").document
    assert (stats["queries"], stats["schema_version"], stats["edges"]["IN"]) == (5, 2, 10)
    assert "nothing to convert" in command("migrate", "--memory", old).out


def test_the_document(old: Path, command: Callable[..., Any]) -> None:
    document = command("migrate", "--memory", old, "--json").document
    assert document.pop("seconds") > 0
    assert document == {
        "schema": {"before": 1, "after": 2},
        "queries": {"before": 10, "after": 5},
        "rollouts": {"before": 17, "after": 16},
        "answers": {"before": 13, "after": 9},
        "models": 2,
        "contradictions": [],
        "unrecovered": 0,
        "backup": str(old / "graph.schema1"),
        "vectors": 21,
        "links": {"query": 20, "thinking": document["links"]["thinking"]},
    }


def test_a_contradiction_needs_a_decision(old: Path, command: Callable[..., Any]) -> None:
    with LadybugGraph.open(old / "graph", create=False) as graph:
        graph.cypher("MATCH (q:Query) WHERE q.key = 'barn-7' SET q.gold = '21'", write=True)
    stopped = command("migrate", "--memory", old)
    assert (stopped.code, stopped.out) == (1, "")
    assert "--prefer first" in stopped.err
    assert "'20' (dataset farm, key farm/1) and '21' (dataset farm, key barn-7)" in stopped.err
    decided = command("migrate", "--memory", old, "--prefer", "second")
    assert decided.code == 0
    assert "decided: " in decided.out
    ask = "MATCH (q:Query) WHERE q.gold IS NOT NULL RETURN q.gold AS gold"
    assert command("cypher", ask, "--memory", old, "--json").document == [{"gold": "21"}]
