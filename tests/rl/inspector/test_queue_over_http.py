"""The page of the queue over HTTP: names, forms, and one sentence for what cannot be labelled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from starlette.routing import Mount

from memstore.labels.answers import AnswerVerdict
from memstore.labels.journal import Journal
from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_rl.inspector.label_queue import entry_of
from memstore_rl.inspector.serve import inspector_app
from memstore_rl.inspector.source import MemorySource, SnapshotSource

from .conftest import SCRIPT, make_memory, many_answers, more_rollouts, query_with, serving


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with make_memory(tmp_path) as opened:
        yield opened


@pytest.fixture
def labelling(memory: Memory) -> Iterator[httpx.Client]:
    """A client of pages with a queue of one query."""
    source = MemorySource(memory)
    app = inspector_app(source, queue=[entry_of({"query_id": query_with(memory, "Mia has 4")})])
    with serving(source, app=app) as address, httpx.Client(base_url=address) as client:
        yield client


def send(web: httpx.Client, path: str, **values: str) -> httpx.Response:
    """Send a form of the page with its token, and follow the redirection."""
    csrf = hidden(web.get("/queue").text)["csrf"]
    return web.post(path, data={"csrf": csrf, **values}, follow_redirects=True)


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page."""
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))


def test_forms_label_and_undo(labelling: httpx.Client, memory: Memory) -> None:
    assert "Your name" in labelling.get("/queue").text
    page = send(labelling, "/queue/name", name=f"Ana {SCRIPT[:20]}")
    assert "Mia has 4" in page.text
    assert SCRIPT[:20] not in page.text
    done = send(labelling, "/queue/press", **hidden(page.text), key="1", reason="clear")
    assert "6 rollouts labelled" in done.text
    assert "Rewards moved by" in done.text
    assert "No query of the queue is left" in done.text
    assert (Journal(memory.folder).batches()[-1].reason, memory.stats().labelled_thinkings) == ("clear", 18)
    assert "Undone: 6 rollouts." in send(labelling, "/queue/press", key="u").text
    assert labelling.get("/queue", params={"query": "q-gone"}).status_code == 404


def test_forms_of_other_sites_are_refused(labelling: httpx.Client, memory: Memory) -> None:
    query = query_with(memory, "Mia has 4")
    for path in ("press", "choose", "name"):
        assert labelling.post(f"/queue/{path}", data={"query": query, "key": "1", "name": "x"}).status_code == 400
    assert send(labelling, "/queue/name", name=" ").status_code == 400
    send(labelling, "/queue/press", query=query, key="1")  # without a name
    send(labelling, "/queue/name", name="Ana")
    refused = send(labelling, "/queue/press", query=query, key="1")  # without the answers that were shown
    assert "The page has shown no answer 1, so nothing is written" in refused.text
    assert 'id="labelling"' in refused.text
    assert Journal(memory.folder).batches() == []


def test_a_verdict_is_on_the_answer_that_the_page_showed(labelling: httpx.Client, memory: Memory) -> None:
    send(labelling, "/queue/name", name="Ana")
    query = query_with(memory, "Mia has 4")
    shown = hidden(labelling.get("/queue", params={"query": query}).text)
    more_rollouts(memory, "9")
    assert "&#39;8&#39; is right" in send(labelling, "/queue/press", **shown, key="1").text


def test_the_overwrite_button_keeps_the_answers_that_were_shown(labelling: httpx.Client, memory: Memory) -> None:
    send(labelling, "/queue/name", name="Ana")
    query = query_with(memory, "Mia has 4")
    shown = hidden(labelling.get("/queue", params={"query": query}).text)
    memory.label_answers([AnswerVerdict(query, "9", 1.0)], by="Ben")
    conflict = send(labelling, "/queue/press", **shown, key="0").text
    assert 'id="overwrite"' in conflict
    assert f'The verdict was 0, on <a href="/inspect/query/{query}">' in conflict
    overwrite = hidden(conflict[: conflict.index('id="overwrite"')])
    more_rollouts(memory, "11")
    refused = send(labelling, "/queue/press", **overwrite, key="0")
    assert "have changed since the page was shown" in refused.text
    assert refused.url.params["query"] == query
    assert 'id="overwrite"' not in refused.text
    assert [batch.by for batch in Journal(memory.folder).batches()] == ["Ben"]


def test_a_contradiction_names_its_query(labelling: httpx.Client, memory: Memory) -> None:
    send(labelling, "/queue/name", name="Ana")
    other = query_with(memory, "Mia has 5")
    shown = hidden(labelling.get("/queue", params={"query": other}).text)
    memory.label_answers([AnswerVerdict(other, "9", 1.0)], by="Ben")
    page = send(labelling, "/queue/press", **shown, key="1").text
    assert "Mia has 4" in page
    assert f'on <a href="/inspect/query/{other}">another query than the one below</a>' in page


def test_overwriting_keeps_the_reason(labelling: httpx.Client, memory: Memory) -> None:
    send(labelling, "/queue/name", name="Ana")
    query = query_with(memory, "Mia has 4")
    shown = hidden(labelling.get("/queue", params={"query": query}).text)
    memory.label_answers([AnswerVerdict(query, "9", 1.0)], by="Ben")
    conflict = send(labelling, "/queue/press", **shown, key="1", reason=f"4 + 4 {SCRIPT}").text
    assert SCRIPT not in conflict
    overwrite = {name: unescape(value) for name, value in hidden(conflict[: conflict.index('id="overwrite"')]).items()}
    assert "is right" in send(labelling, "/queue/press", **overwrite, key="1").text
    batch = Journal(memory.folder).batches()[-1]
    assert (batch.by, batch.reason) == ("Ana", f"4 + 4 {SCRIPT}")


def test_a_refused_key_keeps_the_reason_in_its_field(labelling: httpx.Client, memory: Memory) -> None:
    send(labelling, "/queue/name", name="Ana")
    shown = hidden(labelling.get("/queue").text)
    more_rollouts(memory, "11")
    refused = send(labelling, "/queue/press", **shown, key="0", reason='a "reason"').text
    assert "have changed since the page was shown" in refused
    assert 'name="reason" maxlength="2000" autocomplete="off" value="a &#34;reason&#34;"' in refused
    assert "&#34;reason" not in labelling.get("/queue").text


def test_the_page_says_what_none_of_these_means(labelling: httpx.Client, memory: Memory) -> None:
    send(labelling, "/queue/name", name="Ana")
    query = many_answers(memory, 60)
    page = labelling.get("/queue", params={"query": query}).text
    assert "0 none of these 50<" in page
    assert "10 more answers are not shown: a verdict on those above says nothing about them" in page
    send(labelling, "/queue/press", **hidden(page), key="0")
    page = labelling.get("/queue", params={"query": query}).text
    assert "0 none of all 60 answers<" in page
    assert "10 more answers are labelled wrong already and not shown" in page
    assert (
        "None of the answers is right; 10 rollouts labelled"
        in send(labelling, "/queue/press", **hidden(page), key="0").text
    )


def test_what_cannot_be_labelled_is_a_sentence(looked_at: Memory) -> None:
    for source in (MemorySource(looked_at, read_only=True), SnapshotSource(looked_at.snapshot(), "a snapshot")):
        with serving(source) as address:
            page = httpx.get(f"{address}/queue")
            assert (page.status_code, "these pages are read-only" in page.text) == (403, True)


def test_an_empty_memory_has_no_queue(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        source = MemorySource(memory)
        app = inspector_app(source)
        with serving(source, app=app) as address, httpx.Client(base_url=address) as web:
            assert "The queue is empty" in send(web, "/queue/name", name="Ana").text
            send(web, "/queue/choose", criterion="pages")
            [pages] = [route.app for route in app.routes if isinstance(route, Mount)]
            pages.state.site.desk.queue.get(200.0)
            assert "has no rollouts to label" in web.get("/queue").text
