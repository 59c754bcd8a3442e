"""Every failure between a command and its servers gives one sentence without the password."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.testing.servers.neo4j import Login
from memstore.testing.servers.ports import free_port
from memstore_cli.main import run

WRONG = "hunter2-do-not-print"
ROW = '{"query": "2 + 2?", "dataset": "sums", "thinking": "two and two", "answer": "4", "policy": "p", "run": "r"}'

pytestmark = pytest.mark.usefixtures("profiles")


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """Run a command that must fail, and return its one line on stderr; neither it nor the log has the secret."""

    def refused(*arguments: str, secret: str) -> str:
        with caplog.at_level(logging.DEBUG):
            assert run(arguments) == 1
        out, err = capfd.readouterr()
        assert secret not in out + err + caplog.text
        assert len(err.splitlines()) == 1, err
        return err

    return refused


def edit(old: str, new: str) -> None:
    file = Path("memstore.toml")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_wrong_password(refused: Callable[..., str], neo4j_login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_NEO4J_PASSWORD", WRONG)
    message = refused("stats", "--memory", "one", secret=WRONG)
    assert neo4j_login.uri in message
    assert "correct the user and the password" in message


def test_a_database_that_does_not_exist(refused: Callable[..., str], neo4j_login: Login) -> None:
    edit('neo4j_database = "neo4j"', 'neo4j_database = "nowhere"')
    message = refused("stats", "--memory", "one", secret=neo4j_login.password)
    assert "database nowhere" in message


def test_a_server_that_does_not_answer(refused: Callable[..., str], neo4j_login: Login) -> None:
    nowhere = f"bolt://127.0.0.1:{free_port()}"
    edit(neo4j_login.uri, nowhere)
    message = refused("cypher", "RETURN 1", "--memory", "one", secret=neo4j_login.password)
    assert f"no Neo4j server responds at {nowhere}" in message


def test_a_namespace_without_a_memory(refused: Callable[..., str], neo4j_login: Login) -> None:
    message = refused("snapshot", "out", "--memory", "one", secret=neo4j_login.password)
    assert "there is no memory at" in message


def test_profiles_and_files_contain_no_password(neo4j_login: Login, capfd: pytest.CaptureFixture[str]) -> None:
    Path("rows.jsonl").write_text(f"{ROW}\nnot a row\n")
    with Memory.open("one", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest(["rows.jsonl"])
        assert neo4j_login.password not in repr(memory.location) + str(memory.location) + repr(vars(memory.stores))
    assert run(["profiles"]) == 0
    out, err = capfd.readouterr()
    assert "one" in out
    assert neo4j_login.password not in out + err
    written = [file for file in Path.cwd().rglob("*") if file.is_file()]
    assert any("rejects" in str(file) for file in written)
    assert not [file for file in written if neo4j_login.password.encode() in file.read_bytes()]
