"""The page of a training: of a running service, and of what is stored."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from memstore.memory import Memory
from memstore_gnn.monitoring.residual_gap import GroupGap
from memstore_rl.inspector.app import make_pages
from memstore_rl.inspector.site import PREFIX
from memstore_rl.inspector.source import MemorySource, Source
from memstore_rl.inspector.views import training
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.stored_training import stored_training
from memstore_rl.inspector.views.training import live_training
from memstore_rl.rewards.gauge import Gauge, GaugeSettings
from memstore_rl.rewards.gauge_window import ScoredGroup
from memstore_rl.rewards.reward import Reward
from memstore_rl.rewards.reward import Source as RewardSource
from memstore_rl.rewards.verdicts import VerdictCounts
from memstore_rl.service.app import make_app
from memstore_rl.service.client import RewardClient
from memstore_rl.service.live import LiveService
from memstore_rl.service.metrics import Metrics, spread
from memstore_rl.service.service import RewardService
from tests.rl.service.training_services import group, trained_sums

from .conftest import SCRIPT, rows, serving
from .test_pages_of_the_service import NoScorer
from .test_unusual_memories import memory_of

HARM = "withheld, so unlabelled groups are unscored"


def given(source: RewardSource, *, silent: bool = False) -> list[Reward]:
    return [Reward(0.5, source, 0.5, 4, False, "m", True, 0.0, silent=silent)] * 4


def train(gauge: Gauge, steps: range, run: str = "grpo", gap: float = -0.3) -> None:
    """Score steps of twenty labelled groups, whose predictions mislead by `gap`, and of one unlabelled group."""
    for step in steps:
        start = gauge.start([(run, step)])
        key = start.steps[0]
        judged = [
            ScoredGroup(f"q{step}-{n}", key, ["1"] * 4, given("ground_truth"), GroupGap(gap + n / 1000, True, 0.0))
            for n in range(20)
        ]
        answers = ["1", "1", "1", "2"] if step % 2 else ["2", "2", "2", "1"]
        gauge.observe([*judged, ScoredGroup("u", key, answers, given("predicted", silent=step % 2 == 0))])


def live_service(verdicts: VerdictCounts | None = None, **info: Any) -> LiveService:
    metrics = Metrics(waiting=lambda: 0, journal=lambda: 0)
    return LiveService(Gauge(GaugeSettings(least=30)), metrics, lambda: verdicts, lambda: {"mode": "memory"} | info)


@contextmanager
def shown(memory: Memory, live: LiveService) -> Iterator[str]:
    """The pages of a service."""
    source = MemorySource(memory)
    service = RewardService(NoScorer(), None)  # type: ignore[arg-type]
    app = make_app(service, pages={PREFIX: make_pages(source, live=live)})
    with serving(source, app=app) as address:
        yield address


def test_steps_of_a_live_training() -> None:
    live = live_service(model="m-1")
    train(live.gauge, range(5))
    train(live.gauge, range(100, 102), run="other")
    page = live_training(live, "grpo")
    assert (page.runs, page.run, page.problem) == (("other", "grpo"), "grpo", None)
    assert [row.steps for row in page.rows] == ["0", "1", "2", "3", "4"]
    first, last = page.rows[0], page.rows[-1]
    assert (first.share("ground_truth"), first.share("predicted")) == (20 / 21, 1 / 21)
    assert (first.gap, first.flip_share, first.silent_share) == (None, None, 1.0)
    assert (last.flip_share, last.silent_share) == (1.0, 1.0)
    assert page.rows[2].gap == pytest.approx(-0.29, abs=0.01)
    assert [row.stopped for row in page.rows] == [False, False, True, True, True]
    assert page.reading.stopped
    assert HARM in str(page.decision)
    assert live_training(live).run == "other"
    with pytest.raises(NotThere):
        live_training(live, "third")


def test_many_steps_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "BINS", 2)
    live = live_service()
    train(live.gauge, range(5), gap=0.2)
    page = live_training(live)
    assert [row.steps for row in page.rows] == ["0–2", "3–4"]
    assert page.rows[0].sources == {"ground_truth": 240, "predicted": 12}
    assert page.rows[1].flip_share == 1.0


def test_a_service_before_its_first_step() -> None:
    assert "has scored no group of a training" in str(live_training(live_service(model="m-1")).problem)
    assert "uses no reward model (mode budget)" in str(live_training(live_service(mode="budget")).problem)


def test_the_page_of_a_service(looked_at: Memory) -> None:
    counts = VerdictCounts(calls=12, latest_calls=3, right=5, wrong=7, remembered=40, open=9)
    live = live_service(counts, model="m-1")
    live.metrics.rewards.labels("predicted").inc(8)
    live.metrics.groups.inc(2)
    live.metrics.on_batch(16, 0.03)
    train(live.gauge, range(4), run=f"run {SCRIPT}")
    with shown(looked_at, live) as address, httpx.Client(base_url=address) as web:
        text = web.get("/training").text
        assert SCRIPT not in text
        assert text.count('class="chart"') == 3
        assert f"Predictions are switched off: {live.gauge.decision}.".replace(">", "&gt;") in text
        assert "12, in the latest step 3" in text
        assert "40 remembered, 9 open" in text
        assert re.search(r"scoring a batch</th><td class=\"number\">1</td><td class=\"number\">0.03 s</td>", text)
        assert web.get("/training", params={"run": "none"}).status_code == 404
        assert web.get("/training", params={"stored": "1"}).text.count('class="chart"') == 3
        train(live.gauge, range(4, 5), run="later")
        assert "<bdi>later</bdi>" in web.get("/training").text


def test_stored_runs(source: Source) -> None:
    found = stored_training(source)
    assert (found.more_runs, found.without_step) == (0, 0)
    [run] = found.runs
    assert (run.run, run.rollouts) == ("first", 30)
    early, late = run.rows
    assert (early.steps, dict(early.sources)) == ("0", {"ground_truth": 6, "predicted": 9})
    assert late.sources == {"ground_truth": 6, "predicted": 9}
    assert (early.reward, late.reward) == (pytest.approx(4 / 6), pytest.approx(4 / 6))
    assert early.predicted == pytest.approx(0.9)
    assert (early.flip_share, late.flip_share) == (None, 0.0)


def test_stored_flips_and_sources(tmp_path: Path) -> None:
    """The first query flips, the second keeps its answer, and programs are not compared."""
    answers = {"a": ("115", "225"), "b": ("115", "115"), "c": ("115", "225")}
    lines = [
        {"query": f"What is {query}?", "thinking": f"{query}{step}{n}", "answer": answer, "run": "r", "step": step}
        | {"domain": "code" if query == "c" else "math", "policy": "p", "sample_index": n}
        for query, steps in answers.items()
        for step, given_answers in enumerate(steps)
        for n, answer in enumerate(given_answers)
    ]
    lines.append({"query": "Without a step?", "thinking": "none", "answer": "1", "domain": "math"})
    with memory_of(tmp_path, lines) as memory:
        found = stored_training(MemorySource(memory))
    [run] = found.runs
    assert found.without_step == 1
    assert [row.flip_share for row in run.rows] == [None, 0.5]
    assert run.rows[0].sources == {"unscored": 9}


def test_memories_without_steps(tmp_path: Path) -> None:
    for name, lines in (("empty", []), ("none", [{k: v for k, v in row.items() if k != "step"} for row in rows()])):
        (tmp_path / name).mkdir()
        with memory_of(tmp_path / name, lines) as memory, serving(MemorySource(memory)) as address:
            text = httpx.get(f"{address}/training").text
            assert "No stored rollout has a step" in text
            assert "memstore serve" in text


def test_a_histogram_in_figures() -> None:
    metrics = Metrics(waiting=lambda: 0, journal=lambda: 0)
    assert spread(metrics.seconds) == (0, None, ())
    for seconds in [0.003] * 98 + [0.3, 100.0]:
        metrics.seconds.observe(seconds)
    found = spread(metrics.seconds)
    assert (found.number, found.below) == (100, (0.005, 0.5))
    assert found.mean == pytest.approx(1.00594)


PROGRAM = """
import sys
from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_rl.inspector.app import make_pages
from memstore_rl.inspector.source import MemorySource
from memstore_rl.service.serve import ServeOptions, serve
with Memory.open(sys.argv[1], embedder=HashEmbedder()) as memory:
    serve(
        memory,
        ServeOptions(port=0, device="cpu"),
        pages=lambda live: {"/inspect": make_pages(MemorySource(memory), live=live)},
        on_ready=lambda endpoint: print(endpoint, flush=True),
    )
"""


def test_a_service_in_its_own_process_shows_its_training(tmp_path: Path) -> None:
    """What was scored over HTTP is on the page, from the objects behind the metrics."""
    command = [sys.executable, "-c", PROGRAM, str(trained_sums(tmp_path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip()
        try:
            with RewardClient(endpoint) as client:
                for step in (1, 2):
                    client.score_groups([group(1, step), group(2, step), group(3, step, gold=False)])
            text = httpx.get(f"{endpoint}/inspect/training").text
        finally:
            process.terminate()
    assert "<p>Run <bdi>grpo</bdi></p>" in text
    assert '<tr><th scope="row">2</th><td class="number">67 %</td>' in text
    assert "6, 0 of them silent" in text
    assert re.search(r"a request</th><td class=\"number\">2</td>", text)
