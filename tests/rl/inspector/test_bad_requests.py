"""Requests that no page makes: each gets its status and one sentence."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from memstore.memory import Memory
from memstore_rl.inspector.source import MemorySource

from .conftest import serving

TOKEN = "correct-horse-battery"
URLENCODED = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def guarded(looked_at: Memory) -> Iterator[str]:
    """Address of pages with a login."""
    with serving(MemorySource(looked_at), TOKEN) as address:
        yield address


@pytest.mark.parametrize(
    ("form", "status", "sentence"),
    [
        ({"data": {"token": "x" * 20_000}}, 413, "at most 16 KiB"),
        ({"content": iter([b"token=", b"x" * 20_000]), "headers": URLENCODED}, 413, "at most 16 KiB"),  # chunked
        ({"data": {f"field-{n}": "" for n in range(20)}}, 400, "at most 10 fields"),
        ({"content": b"--x\r\nnothing", "headers": MULTIPART}, 400, "send it as application/x-www-form-urlencoded"),
        ({"content": b"token=1", "headers": {"content-type": "multipart/form-data"}}, 400, "no form that a page sends"),
        ({"content": b'{"token": "x"}', "headers": {"content-type": "application/json"}}, 400, "no form that a page"),
        ({"content": b"\xff=%ff&=&&=%", "headers": URLENCODED}, 401, "not the token of the service"),
        ({}, 401, "not the token of the service"),
    ],
)
def test_a_bad_form_of_the_login(
    guarded: str, form: dict[str, Any], status: int, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = httpx.post(f"{guarded}/login", **form)
    assert (answer.status_code, sentence in answer.text) == (status, True), answer.text
    assert caplog.records == []


def test_bad_forms_of_a_session(web: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    csrf = re.search(r'name="csrf" value="([^"]+)"', web.get("/queue").text)
    assert csrf is not None
    many = {"csrf": csrf[1]} | {f"field-{n}": "" for n in range(300)}
    answer = web.post("/queue/choose", data=many)
    assert (answer.status_code, "at most 100 fields" in answer.text) == (400, True), answer.text
    unknown = web.post("/queue/choose", data={"csrf": csrf[1], "criterion": "nope"})
    assert (unknown.status_code, "criterion is one of" in unknown.text.lower()) == (400, True)
    long = web.post("/queue/choose", content=iter([b"x" * 2**20, b"x"]), headers=URLENCODED)
    assert (long.status_code, "at most 1024 KiB" in long.text) == (413, True)
    assert caplog.records == []


def test_methods_that_a_page_does_not_take(web: httpx.Client, guarded: str) -> None:
    refused = web.put("/queries")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert httpx.head(f"{guarded}/login").status_code == 200
    assert httpx.head(f"{guarded}/queries").headers["location"].startswith("/inspect/login")


@pytest.mark.parametrize("name", ["", "a\u200bb", "\u202eabc", "x" * 81])
def test_a_bad_name(web: httpx.Client, name: str) -> None:
    csrf = re.search(r'name="csrf" value="([^"]+)"', web.get("/queue").text)
    assert csrf is not None
    refused = web.post("/queue/name", data={"csrf": csrf[1], "name": name})
    assert (refused.status_code, "at most 80 characters, none of them invisible" in refused.text) == (400, True)


def test_an_invalid_origin(web: httpx.Client, guarded: str) -> None:
    for answer in (
        web.get("/", headers={"origin": "http://["}),
        httpx.post(f"{guarded}/login", data={"token": TOKEN}, headers={"origin": "http://["}),
    ):
        assert answer.status_code == 403
        assert "elsewhere" in answer.text or "another site" in answer.text


@pytest.mark.parametrize("end", ["notint", "9" * 5_000, "²", ""])
def test_a_signed_session_without_a_time_is_none(guarded: str, end: str) -> None:
    named = f"abc.{end}"
    signature = hmac.new(TOKEN.encode(), f"memstore session {named}".encode(), "sha256").hexdigest()
    cookie = f"memstore_session={named}.{signature}".encode()
    assert httpx.get(f"{guarded}/", headers=[(b"cookie", cookie)]).status_code == 303


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/queries?where=nope", "is one of text"),
        ("/queries?labels=nope", "is one of any"),
        ("/queries?domain=nope", "is one of "),
        ("/disagreements?kind=nope", "is one of truth"),
        ("/disagreements?sort=nope", "is one of gap"),
        (f"/query/q-1?step={'9' * 39}x{'9' * 500}", f"{'9' * 39}x&#39; is not a step"),
        (f"/query/q-1?step={'9' * 5_000}", "is not a step"),
    ],
)
def test_an_unknown_choice(web: httpx.Client, path: str, sentence: str) -> None:
    answer = web.get(path)
    assert (answer.status_code, sentence in answer.text) == (400, True), answer.text
    assert "9" * 41 not in answer.text


def test_an_empty_choice_is_the_default(web: httpx.Client) -> None:
    assert web.get("/queries?search=&where=text&dataset=&domain=&labels=any").status_code == 200
