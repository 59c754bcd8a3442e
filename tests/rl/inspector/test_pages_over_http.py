"""The pages over HTTP: status, headers, login, forms of other sites, hostile texts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
import pytest

from memstore.memory import Memory
from memstore_rl.inspector.source import MemorySource, SnapshotSource
from memstore_schema.columns import NodeLabel

from .conftest import SCRIPT, query_with, serving

TOKEN = "correct-horse-battery"


class Tags(HTMLParser):
    """The attributes of all elements of a page, and how many scripts it loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: set[tuple[str, str]] = set()
        self.scripts = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes |= {(tag, name) for name, _ in attrs}
        self.scripts += tag == "script"


def test_every_page_has_the_headers_and_no_script_of_a_model(web: httpx.Client, looked_at: Memory) -> None:
    query = query_with(looked_at, "1 + 1")
    rollout = looked_at.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
    policies = looked_at.graph.nodes(NodeLabel.POLICY, ["id"])["id"].to_pylist()
    addresses = ["/", "/queries", f"/query/{query}", "/cypher?named=votes&draw=1", "/nothing", "/query/q-1"]
    addresses += [f"/query/{query}/timeline", f"/propagation?node={query}", f"/propagation?node={rollout[0]}"]
    addresses += [f"/rollout/{name}" for name in rollout] + [f"/policy/{name}" for name in policies]
    for address in addresses:
        answer = web.get(address)
        assert answer.status_code == (404 if address in ("/nothing", "/query/q-1") else 200), answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert SCRIPT not in answer.text
        tags = Tags(answer.text)
        assert {name for _, name in tags.attributes if name.startswith("on") or name == "style"} == set()
        assert tags.scripts == 2


def test_answers_and_whole_texts(web: httpx.Client, looked_at: Memory) -> None:
    answer = looked_at.graph.nodes(NodeLabel.ANSWER, ["id"])["id"][0].as_py()
    assert web.get(f"/answer/{answer}").headers["location"].endswith(f"?answer={answer}")
    assert web.get("/answer/a-1").status_code == 404
    rollout = looked_at.graph.nodes(NodeLabel.THINKING, ["id"])["id"][0].as_py()
    assert web.get(f"/rollout/{rollout}/text").headers["content-type"].startswith("text/plain")
    found = web.get("/queries", params={"search": rollout})
    assert found.headers["location"] == f"/inspect/rollout/{rollout}"


def test_cypher_results_as_files(web: httpx.Client) -> None:
    asked = {"query": "MATCH (q:Query) RETURN q.id AS id ORDER BY id LIMIT 2"}
    lines = web.get("/cypher/result.csv", params=asked).text.splitlines()
    assert len(lines) == 3
    assert [row["id"] for row in web.get("/cypher/result.json", params=asked).json()] == lines[1:]
    assert web.get("/cypher/result.exe", params=asked).status_code == 400
    assert web.get("/cypher/result.csv", params={"query": "CREATE (:Run {id: 'r'})"}).status_code == 400
    foreign = web.get("/cypher", params=asked, headers={"sec-fetch-site": "cross-site"})
    assert "A link from another site" in foreign.text


def test_without_a_token_only_this_machine_is_served(web: httpx.Client) -> None:
    assert web.get("/", headers={"host": "evil.example"}).status_code == 421
    assert web.post("/logout", headers={"origin": "http://evil.example"}).status_code == 403
    assert web.get("/login").headers["location"] == "/inspect/"


def test_login_by_the_token(looked_at: Memory) -> None:
    with serving(MemorySource(looked_at), TOKEN) as address, httpx.Client(base_url=address) as web:
        asked = web.get("/queries", params={"search": "Mia"})
        assert asked.headers["location"] == "/inspect/login?next=%2Finspect%2Fqueries%3Fsearch%3DMia"
        assert web.get("/static/style.css").status_code == 200
        assert web.post("/logout").status_code == 401
        wrong = web.post("/login", data={"token": "wrong"})
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        login = web.post("/login", params={"next": "/inspect/queries?search=Mia"}, data={"token": TOKEN})
        assert (login.status_code, login.headers["location"]) == (303, "/inspect/queries?search=Mia")
        cookie = login.headers["set-cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/inspect"))
        assert TOKEN not in cookie
        page = web.get("/queries")
        assert page.status_code == 200
        assert web.post("/logout", data={"csrf": "x"}).status_code == 400
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf is not None
        assert web.post("/logout", data={"csrf": csrf[1]}, headers={"origin": "http://evil.example"}).status_code == 403
        assert web.post("/logout", data={"csrf": csrf[1]}).status_code == 303
        assert web.get("/queries").status_code == 303


@pytest.mark.parametrize("following", ["https://evil.example/", "//evil.example", "/\\evil.example", "/elsewhere"])
def test_a_login_leads_to_these_pages_only(looked_at: Memory, following: str) -> None:
    with serving(MemorySource(looked_at), TOKEN) as address:
        login = httpx.post(f"{address}/login", params={"next": following}, data={"token": TOKEN})
    assert login.headers["location"] == "/inspect/"


@pytest.mark.parametrize("cookie", ["", "x", "a.1.b", ".", "a.99999999999.0"])
def test_forged_sessions_are_refused(looked_at: Memory, cookie: str) -> None:
    with serving(MemorySource(looked_at), TOKEN) as address:
        assert httpx.get(f"{address}/", headers={"cookie": f"memstore_session={cookie}"}).status_code == 303


def test_a_snapshot_has_the_same_pages(looked_at: Memory) -> None:
    with serving(SnapshotSource(looked_at.snapshot(), "a snapshot")) as address, httpx.Client(base_url=address) as web:
        for path in (
            "/",
            "/queries?search=Mia",
            f"/query/{(query := query_with(looked_at, 'Mia has 3'))}",
            f"/query/{query}/timeline",
        ):
            assert web.get(path).status_code == 200
        assert "memstore restore" in web.get("/cypher?named=votes").text
        assert "A snapshot has no Cypher" in web.get(f"/propagation?node={query}").text
        assert "read-only" in web.get("/").text
        assert f"/queue?query={query}" not in web.get(f"/query/{query}").text


def test_a_query_leads_to_its_labels(web: httpx.Client, looked_at: Memory) -> None:
    query = query_with(looked_at, "Mia has 3")
    assert f'/inspect/queue?query={query}">' in web.get(f"/query/{query}").text
    assert web.get("/queue", params={"query": query}).status_code == 200
