"""Every page in a real browser: nothing of a model's text runs, no console error, no violation that axe-core finds,
and it works on a phone's width, in the dark, with the keyboard alone and without scripts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from memstore.memory import Memory
from memstore_rl.inspector.source import MemorySource
from memstore_schema.columns import NodeLabel

from .conftest import query_with, serving

AXE = Axe()
VIOLATIONS = {"resultTypes": ["violations"]}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], **VIOLATIONS}
COLOUR_RULES = {"runOnly": ["color-contrast", "link-in-text-block"], **VIOLATIONS}
"""The rules that a colour scheme can change."""


class Tab:
    """A page of the browser, with what it wrote to the console."""

    def __init__(self, context: Any, address: str) -> None:
        self.page, self._address = context.new_page(), address
        self.errors: list[str] = []
        self.page.on("console", lambda message: self._note(message))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def open(self, path: str) -> Any:
        """Open a page of the inspector."""
        self.page.goto(f"{self._address}{path}")
        return self.page

    def check(self) -> None:
        """No error, no violation, no script of a model, and nothing wider than the window."""
        found = AXE.run(self.page, options=RULES)
        assert found.violations_count == 0, found.generate_report()
        assert self.page.evaluate("window.ran") is None
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{self.page.url} is {wide} pixels wider than the window"
        assert self.errors == []

    def check_in_the_dark(self) -> None:
        """No violation in dark colours, which are all that differs."""
        self.page.emulate_media(color_scheme="dark")
        found = AXE.run(self.page, options=COLOUR_RULES)
        assert found.violations_count == 0, found.generate_report()
        self.page.emulate_media(color_scheme="light")


@pytest.fixture
def tab(browser: Any, pages: str) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield Tab(context, pages)
    context.close()


def paths(memory: Memory) -> list[str]:
    """A path of every page, with ordinary and with hostile texts."""
    graph = memory.graph
    policies = graph.nodes(NodeLabel.POLICY, ["id"])["id"].to_pylist()
    queries = [query_with(memory, text) for text in ("Mia has 3", "1 + 1", "كم")]
    rollouts = graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
    return [
        "/",
        "/queries",
        "/queries?search=nothing+like+this",
        *(f"/query/{name}" for name in queries),
        f"/query/{queries[0]}?policy=small&run=first&step=1",
        *(f"/query/{name}/timeline" for name in queries),
        f"/rollout/{rollouts[0]}",
        f"/propagation?node={queries[1]}&node={rollouts[0]}",
        f"/propagation?node={policies[0]}",
        "/propagation",
        f"/policy/{policies[0]}",
        "/training",
        "/evaluation",
        "/cypher",
        "/cypher?named=votes&draw=1",
        "/cypher?query=MATCH+(x",
    ]


@pytest.mark.parametrize("width", [1280, 360])
def test_every_page(browser: Any, pages: str, looked_at: Memory, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="light")
    tab = Tab(context, pages)
    for path in paths(looked_at):
        tab.open(path)
        tab.page.wait_for_load_state("load")
        tab.check()
        tab.check_in_the_dark()
    context.close()


def test_an_unknown_page_says_so(tab: Tab) -> None:
    page = tab.open("/nothing")
    assert "There is no such page" in page.inner_text("main")


def test_formulas_are_drawn_and_broken_ones_shown(tab: Tab, looked_at: Memory) -> None:
    page = tab.open(f"/query/{query_with(looked_at, 'Mia has 3')}")
    page.wait_for_selector(".question math")
    assert page.locator(".question math").count() == 2
    page.wait_for_selector(".math.broken")
    assert page.locator(".math.broken").first.inner_text() == r"$\frac{1}{$"
    assert tab.errors == []


def test_the_keyboard_alone(tab: Tab) -> None:
    page = tab.open("/queries")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("apples")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("search=apples"))
    page.locator("tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".sheet")


def test_without_scripts(browser: Any, pages: str, looked_at: Memory) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{pages}/query/{query_with(looked_at, 'Mia has 3')}")
    assert r"\frac{1}{2}" in page.inner_text(".question")
    page.goto(f"{pages}/queries")
    page.fill("#search", "Mia")
    page.click("text=Search >> nth=-1")
    page.wait_for_url(re.compile("search=Mia"))
    assert page.locator("tbody tr").count() == 3
    context.close()


def test_a_query_is_run_and_drawn(tab: Tab) -> None:
    page = tab.open("/cypher")
    page.fill("#query", "MATCH (q:Query)-[:GENERATES]->(t:Thinking) RETURN q.id, t.id LIMIT 5")
    page.check("input[name=draw]")
    page.keyboard.press("Tab")
    page.click("text=Run")
    page.wait_for_selector("svg.graph")
    assert page.locator("svg.graph .edge").count() >= 5
    page.locator("svg.graph a").first.click()
    page.wait_for_url(re.compile("/query/"))
    tab.check()


def test_a_neighbourhood_is_expanded_with_the_keyboard(tab: Tab, looked_at: Memory) -> None:
    page = tab.open(f"/query/{query_with(looked_at, '1 + 1')}")
    page.click("text=propagation")
    page.wait_for_selector("svg.graph .marked")
    page.locator("svg.graph a[aria-label^=Thinking]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("node=q-.*&node=t-"))
    assert page.locator("svg.graph .marked").count() == 2
    tab.check()
    page.click("text=Run it on the page Cypher")
    page.wait_for_url(re.compile("/cypher"))
    assert page.locator("svg.graph .edge").count() > 0
    tab.check()


def test_a_person_logs_in_and_out(browser: Any, looked_at: Memory) -> None:
    with serving(MemorySource(looked_at), "the-token") as address:
        context = browser.new_context()
        tab = Tab(context, address)
        page = tab.open("/queries?search=Mia")
        tab.check()
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]")
        tab.errors.clear()  # the browser reports the status 401
        tab.check()
        page.fill("#token", "the-token")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"queries\?search=Mia"))
        page.click("text=Log out")
        page.wait_for_url(re.compile("/login"))
        page.goto(f"{address}/queries")
        assert "/login" in page.url
        context.close()
