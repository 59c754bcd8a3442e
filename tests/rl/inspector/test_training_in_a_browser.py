"""The pages Training and Evaluation in a real browser: they are accessible, and a live training refreshes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_rl.inspector.pages import training
from memstore_rl.inspector.source import MemorySource
from memstore_rl.rewards.verdicts import VerdictCounts
from tests.rl.service.training_services import trained_sums

from .conftest import SCRIPT, serving
from .test_evaluation_page import evaluated
from .test_pages_in_a_browser import Tab
from .test_training_page import live_service, shown, train


def check_all(browser: Any, address: str, path: str, ready: str) -> None:
    """The page in light and dark, on a desk and on a phone."""
    for width in (1280, 360):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="light")
        tab = Tab(context, address)
        tab.open(path).wait_for_selector(ready)
        for details in tab.page.locator("details summary").all():
            details.click()
        tab.check()
        tab.check_in_the_dark()
        context.close()


def test_a_live_training_is_accessible(browser: Any, looked_at: Memory) -> None:
    live = live_service(VerdictCounts(calls=3), model="m-1")
    train(live.gauge, range(6), run=f"run {SCRIPT}")
    train(live.gauge, range(6), run="grpo")
    with shown(looked_at, live) as address:
        check_all(browser, address, "/training", "svg.chart")
        check_all(browser, address, "/training?stored=1", "svg.chart")


def test_evaluations_are_accessible(browser: Any, tmp_path: Path) -> None:
    with Memory.open(trained_sums(tmp_path), embedder=HashEmbedder()) as memory:
        evaluated(memory)
        with serving(MemorySource(memory)) as address:
            check_all(browser, address, "/evaluation", "svg.chart")


def test_a_live_training_refreshes_until_it_is_paused(
    browser: Any, looked_at: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "EVERY_S", 0.2)
    live = live_service(model="m-1")
    train(live.gauge, range(2))
    context = browser.new_context()
    with shown(looked_at, live) as address:
        tab = Tab(context, address)
        page = tab.open("/training")
        page.click("text=Numbers")
        page.wait_for_selector("tbody th:text-is('1')")
        page.locator("#numbers summary").evaluate("element => element.blur()")
        train(live.gauge, range(2, 3))
        page.wait_for_selector("tbody th:text-is('2')")
        assert page.locator("#numbers").get_attribute("open") is not None
        page.click("text=Pause")
        train(live.gauge, range(3, 4))
        with page.expect_response("**/inspect/training") as reloaded:
            page.click("text=Reload")
        assert reloaded.value.ok
        page.wait_for_selector("#pause:text-is('Go on')")
        page.click("text=Go on")
        train(live.gauge, range(4, 5))
        page.wait_for_selector("tbody th:text-is('4')", state="attached")
        tab.check()
    page.wait_for_selector("text=The service does not answer; trying again.")
    context.close()


def test_without_scripts_a_link_reloads(browser: Any, looked_at: Memory) -> None:
    live = live_service(model="m-1")
    train(live.gauge, range(2))
    context = browser.new_context(java_script_enabled=False)
    with shown(looked_at, live) as address:
        page = context.new_page()
        page.goto(f"{address}/training")
        assert not page.locator("#pause").is_visible()
        train(live.gauge, range(2, 3))
        page.click("text=Reload")
        page.click("text=Numbers")
        assert page.locator("tbody th:text-is('2')").count() == 1
    context.close()
