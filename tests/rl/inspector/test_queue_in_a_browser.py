"""Labelling in a real browser: every key, two people at once, a contradiction, and no scripts at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.labels.answers import AnswerVerdict
from memstore.labels.journal import Journal
from memstore.memory import Memory
from memstore_rl.inspector.label_queue import entry_of
from memstore_rl.inspector.serve import inspector_app
from memstore_rl.inspector.source import MemorySource

from .conftest import make_memory, many_answers, query_with, serving
from .test_pages_in_a_browser import Tab

QUEUE = ("Mia has 4", "Mia has 5", "كم")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with make_memory(tmp_path) as opened:
        yield opened


@pytest.fixture
def address(memory: Memory) -> Iterator[str]:
    source = MemorySource(memory)
    app = inspector_app(source, queue=[entry_of({"query_id": query_with(memory, text)}) for text in QUEUE])
    with serving(source, app=app) as found:
        yield found


def begin(browser: Any, address: str, name: str, **options: Any) -> Tab:
    """A person's own browser on the queue, after saying the name."""
    tab = Tab(browser.new_context(**options), address)
    page = tab.open("/queue")
    tab.check()
    page.fill("#name", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#labelling")
    page.wait_for_load_state("load")  # the script that reads the keys has run
    return tab


def press(page: Any, *keys: str) -> str:
    """Press keys one after the other, wait for the next page, and return what it says of them."""
    with page.expect_navigation():
        for key in keys:
            page.keyboard.press(key)
    return str(page.inner_text("#outcome"))


def question(page: Any) -> str:
    return str(page.inner_text(".question"))


def test_every_key(browser: Any, address: str, memory: Memory) -> None:
    tab = begin(browser, address, "Ana")
    page = tab.page
    tab.check()
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    tab.check()
    assert QUEUE[0] in question(page)
    page.keyboard.press("x")
    assert "number of the wrong answer" in page.inner_text("#armed")
    page.keyboard.press("Escape")
    assert page.inner_text("#armed") == ""
    second = page.inner_text("#a2")
    assert f"'{second}' is wrong; 1 rollout labelled" in press(page, "x", "2")
    assert QUEUE[0] in question(page), "the query stays open"
    assert "undone: 1 rollout" in press(page, "u").lower()
    page.fill("#reason", "no 1 of these")  # digits in a field are no keys
    assert "none of the answers is right" in press_outside(page, "0").lower()
    assert Journal(memory.folder).batches()[-1].reason == "no 1 of these"
    assert QUEUE[1] in question(page)
    assert "skipped" in press(page, "s").lower()
    assert QUEUE[2] in question(page)
    said = press(page, "1")
    assert "'4' is right; 6 rollouts labelled" in said
    assert "Calibration" in said
    assert page.locator("#labelling").count() == 0
    assert "undone: 6 rollouts" in press(page, "u").lower()
    tab.check()
    assert {batch.by for batch in Journal(memory.folder).batches()} == {"Ana"}


def press_outside(page: Any, key: str) -> str:
    page.evaluate("document.activeElement.blur()")
    return press(page, key)


def test_answers_beyond_nine_have_keys(browser: Any, address: str, memory: Memory) -> None:
    tab = begin(browser, address, "Ana")
    page = tab.open(f"/queue?query={many_answers(memory, 60)}")
    page.wait_for_load_state("load")
    keyboard = page.keyboard
    for key in ("n", "9", "9"):
        keyboard.press(key)
    assert "Number of the right answer: 99" in page.inner_text("#armed")
    keyboard.press("Enter")
    assert page.inner_text("#armed") == "There is no answer 99."
    page.focus("button[value='1']")  # Enter there would press it
    twelfth, page_of = page.inner_text("#a12"), page.url
    assert f"'{twelfth}' is wrong; 1 rollout labelled" in press(page, "x", "n", "3", "Backspace", "1", "2", "Enter")
    page.goto(page_of)
    page.wait_for_load_state("load")
    keyboard.press("n")
    keyboard.press("Escape")
    assert page.inner_text("#armed") == ""
    last = page.inner_text("#a50")
    assert f"'{last}' is right; 60 rollouts labelled" in press(page, "n", "5", "0", "Enter")
    tab.check()


def test_enter_in_the_reason_judges_nothing(browser: Any, address: str, memory: Memory) -> None:
    page = begin(browser, address, "Ana").page
    page.fill("#reason", "because")
    page.keyboard.press("Enter")
    assert "skipped" in press_outside(page, "s").lower()
    assert Journal(memory.folder).batches() == []


def test_two_people_at_once(browser: Any, address: str, memory: Memory) -> None:
    ana, ben = begin(browser, address, "Ana"), begin(browser, address, "Ben", viewport={"width": 360, "height": 800})
    assert QUEUE[0] in question(ana.page)
    assert QUEUE[1] in question(ben.page)
    press(ana.page, "1")
    assert QUEUE[2] in question(ana.page), "the second one is Ben's"
    press(ben.page, "1")
    assert ben.page.locator("#labelling").count() == 0
    press(ana.page, "1")
    batches = Journal(memory.folder).batches()
    assert [batch.by for batch in batches] == ["Ana", "Ben", "Ana"]
    assert len({change.rollout for batch in batches for change in batch.changes}) == 18
    for tab in (ana, ben):
        tab.check()


def test_a_contradiction_can_be_overwritten(browser: Any, address: str, memory: Memory) -> None:
    tab = begin(browser, address, "Ana")
    query = query_with(memory, QUEUE[0])
    memory.label_answers([AnswerVerdict(query, "8", 1.0)], by="Ben")
    assert "contradicts a label" in press(tab.page, "2")
    tab.check()
    with tab.page.expect_navigation():
        tab.page.click("#overwrite")
    assert "is right; 5 rollouts labelled" in tab.page.inner_text("#outcome")
    tab.open("/queue")
    tab.check()


def test_without_scripts(browser: Any, address: str, memory: Memory) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/queue")
    page.fill("#name", "Ana")
    page.click("text=Begin")
    page.click("button[value=x2]")
    assert "is wrong" in page.inner_text("#outcome")
    page.click("button[value='1']")
    page.wait_for_selector("#outcome")
    page.click("button[value=u]")
    assert re.search("[Uu]ndone", page.inner_text("#outcome"))
    context.close()
