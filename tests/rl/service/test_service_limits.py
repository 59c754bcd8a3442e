"""Who may reach the service, its limits on connections, and logs that cannot flood."""

from __future__ import annotations

import ast
import json
import logging
import resource
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

import memstore_rl.service
from memstore.errors import StoreFullError
from memstore_rl.rewards.reward import Group
from memstore_rl.service import wire
from memstore_rl.service.journal import Entry, Journal
from memstore_rl.service.logs import BURST, INTERVAL_S, FloodFilter
from memstore_rl.service.protocol import ConnectionLimits

Served = Callable[..., AbstractContextManager[str]]
JSON = {"Content-Type": "application/json"}
BODY = {"groups": [{"query": {"text": "1 + 1?"}, "rollouts": [{"response": "2"}]}]}


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        (None, 415),
        ("", 415),
        ("text/plain", 415),  # what a web page may send without asking the browser's permission
        ("text/plain; application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data", 415),
        ("application/jsonp", 415),
        ("application/json, text/plain", 415),
    ],
)
def test_only_json_is_scored(served: Served, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    with served() as endpoint:
        response = httpx.post(f"{endpoint}/v1/score", content=json.dumps(BODY), headers=headers)
    assert response.status_code == status
    assert status == 200 or "Content-Type: application/json" in response.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "127.0.0.1:8731"}, 200),
        ({"Host": "127.9.9.9"}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "LOCALHOST."}, 200),
        ({"Host": "[::1]:8731"}, 200),
        ({"Host": "evil.example"}, 421),  # DNS rebinding: the name of a web page that now leads here
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "192.168.0.7"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://localhost:3000"}, 200),  # a page of this machine
        ({"Origin": "http://[::1]:3000"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),  # a sandboxed frame or a file
        ({"Origin": ""}, 403),
    ],
)
def test_web_pages_cannot_reach_a_service_without_a_token(served: Served, headers: dict[str, str], status: int) -> None:
    with served() as endpoint:
        for response in (
            httpx.post(f"{endpoint}/v1/score", json=BODY, headers=headers),
            httpx.get(f"{endpoint}/v1/info", headers=headers),
        ):
            assert response.status_code == status
            assert status == 200 or list(response.json()) == ["error"]
    with served(token="secret") as endpoint:  # a token is stronger: names of the network are allowed
        response = httpx.post(f"{endpoint}/v1/score", json=BODY, headers={**headers, "Authorization": "Bearer secret"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer secret", 200),
        ("bearer secret", 200),  # RFC 7235: the scheme is case-insensitive
        ("BEARER secret", 200),
        ("bEaReR  secret", 200),
        ("Bearer Secret", 401),
        ("Bearer secret2", 401),
        ("Bearersecret", 401),
        ("Basic secret", 401),
        ("secret", 401),
        ("", 401),
    ],
)
def test_scheme_of_the_token_in_any_case(served: Served, authorization: str, status: int) -> None:
    with served(token="secret") as endpoint:
        assert httpx.get(f"{endpoint}/v1/info", headers={"Authorization": authorization}).status_code == status


def test_errors_are_one_sentence_of_json(served: Served, scorer: Any) -> None:
    scorer.bug = "bug"
    broken = {"groups": [{"query": {"text": "bug"}, "rollouts": [{"response": "2"}]}]}
    with served() as endpoint:
        responses = [
            httpx.get(f"{endpoint}/nowhere"),
            httpx.get(f"{endpoint}/v1/score"),
            httpx.request("OPTIONS", f"{endpoint}/v1/score"),
            httpx.post(f"{endpoint}/v1/score", content=b"{", headers=JSON),
            httpx.post(f"{endpoint}/v1/score", json=broken),
            raw(endpoint, b"NONSENSE\r\n\r\n"),
            raw(endpoint, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 300_000),
        ]
    assert [response.status_code for response in responses] == [404, 405, 405, 422, 500, 400, 400]
    for response in responses:
        assert list(response.json()) == ["error"]
        assert "\n" not in response.json()["error"]
    assert "because of a bug" in responses[4].json()["error"]


def raw(endpoint: str, sent: bytes) -> httpx.Response:
    """Send bytes and return the response, which ends with the connection."""
    with connection(endpoint) as client:
        client.sendall(sent)
        head, _, body = read_all(client).partition(b"\r\n\r\n")
    return httpx.Response(int(head.split()[1]), content=body)


def connection(endpoint: str) -> socket.socket:
    host, port = endpoint.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=200)


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    content = b""
    try:
        while part := client.recv(1 << 16):
            content += part
    except ConnectionResetError:
        pass
    return content


HEAD = b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b"408"),  # a connection without a request
        (HEAD + b"X: ", b"408"),  # headers that do not end
        (HEAD + b"\r\n{", b""),  # a body that does not end: no response is possible
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),  # an idle connection after a response
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEAD, b"200"),
    ],
)
def test_slow_connections_are_closed(served: Served, sent: bytes, status: bytes) -> None:
    limits = ConnectionLimits(header_s=0.3, body_idle_s=0.3, keep_alive_s=1.0)
    with served(limits=limits) as endpoint, connection(endpoint) as client:
        client.sendall(sent)
        assert status in read_all(client).partition(b"\r\n")[0]  # returns only because the server closes it
        assert httpx.get(f"{endpoint}/health/live").status_code == 200


def test_connections_are_limited(served: Served) -> None:
    with served(limits=ConnectionLimits(connections=3)) as endpoint:
        held = [connection(endpoint) for _ in range(3)]
        for client in held:
            client.sendall(HEAD)
        with connection(endpoint) as fourth:
            response = read_all(fourth)
        assert b"503" in response.partition(b"\r\n")[0]
        assert b"too many connections" in response
        for client in held:
            client.close()
        until = time.monotonic() + 200
        while httpx.get(f"{endpoint}/health/live").status_code != 200:
            assert time.monotonic() < until


def test_request_waits_for_no_other_request_that_is_verified(
    served: Served, scorer: Any, make_group: Callable[..., Group]
) -> None:
    # Programs and formulas of one group run in a thread of their own, so that another group is scored meanwhile.
    verify, entered = scorer.verify, threading.Event()

    def verify_slowly(groups: list[Group]) -> Any:
        if groups[0].query.text == "slow":
            entered.set()
            scorer.gate.wait(200)
        return verify(groups)

    scorer.verify = verify_slowly
    body = wire.request_json([make_group("slow", gold="1")], record=False)
    with served() as endpoint, ThreadPoolExecutor(1) as thread:
        finished = scorer.gate
        finished.clear()
        slow = thread.submit(httpx.post, f"{endpoint}/v1/score", content=body, headers=JSON, timeout=200)
        assert entered.wait(200)
        scorer.score_verified = ungated(scorer)
        assert httpx.post(f"{endpoint}/v1/score", json=BODY, timeout=200).status_code == 200
        assert not slow.done()
        finished.set()
        assert slow.result().status_code == 200


def ungated(scorer: Any) -> Callable[[list[Any]], Any]:
    """Return a `score_verified` that does not wait for the scorer's gate."""
    return lambda groups: [[scorer._reward(group.task, one) for one in group.task.rollouts] for group in groups]


def record(name: str, line: int, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, "code.py", line, "no file descriptors are left", None, None)


@pytest.mark.parametrize(
    ("name", "level", "logged"),
    [
        ("asyncio", logging.ERROR, 1),  # socket.accept() out of system resource, 2,048 times a second
        ("uvicorn.error", logging.WARNING, 1),
        ("memstore_rl.service.app", logging.ERROR, BURST),
        ("memstore_rl.service.app", logging.INFO, 10_000),  # a near miss: no client causes these
    ],
)
def test_logs_cannot_flood(name: str, level: int, logged: int) -> None:
    now = [0.0]
    flood = FloodFilter(lambda: now[0])
    assert sum(flood.filter(record(name, 1, level)) for _ in range(10_000)) == logged
    assert flood.filter(record(name, 2, level))  # another line of code
    now[0] = INTERVAL_S
    following = record(name, 1, level)
    assert flood.filter(following)
    assert getattr(following, "left_out", 0) == 10_000 - logged


def test_journal_is_private(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.touch(0o644)  # as older versions made it
    journal = Journal(path)
    journal.append([Entry("k", "{}", None, None, 1.0)])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    journal.close()
    assert set(modes.values()) == {0o600}, modes


def test_full_disk_is_one_sentence_and_loses_nothing(
    served: Served, make_group: Callable[..., Group], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Journal, entries: list[Entry]) -> set[str]:
        raise self._translated(sqlite3.OperationalError("database or disk is full"))

    append = Journal.append
    with served() as endpoint:
        monkeypatch.setattr(Journal, "append", full)
        response = httpx.post(f"{endpoint}/v1/score", json=BODY)
        assert response.status_code == 500
        assert "no space left for the journal" in response.json()["error"]
        monkeypatch.setattr(Journal, "append", append)
        assert httpx.post(f"{endpoint}/v1/score", json=BODY).json()["recorded"] == 1


def test_full_disk_in_sqlite_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append([Entry("first", "{}", None, None, 1.0)])
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFullError, match="no space left"):
        journal.append([Entry(str(number), "x" * 1000, None, None, 1.0) for number in range(100)])
    assert [entry.key for entry in journal.oldest(10)] == ["first"]
    journal._connection.execute("PRAGMA max_page_count = 100000")
    assert journal.append([Entry("second", "{}", None, None, 1.0)]) == {"second"}
    journal.close()


@pytest.mark.parametrize("limit", [0, 4_096, 20_000, 32_768, 40_000])
def test_a_limit_on_the_size_of_files_is_reported_as_missing_space(tmp_path: Path, limit: int) -> None:
    # As a quota does; SQLite calls it a disk I/O error.
    entries = [Entry(str(number), "x" * 1000, None, None, 1.0) for number in range(100)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(StoreFullError, match="no space left"):
            Journal(tmp_path / "journal.sqlite").append(entries)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal = Journal(tmp_path / "journal.sqlite")
    assert len(journal.append(entries)) == 100
    journal.close()


def test_intervals_do_not_depend_on_the_wall_clock() -> None:
    # A clock that jumps (NTP, suspended laptops) must neither stall the recorder nor end a deadline.
    used = []
    for path in Path(memstore_rl.service.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "dt.datetime.now", "time.sleep"):
                used.append(f"{path.name}: {ast.unparse(node)}")
    assert used == []
