"""The page of a training: of the service that shows it, live, or of what a memory has stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memstore_rl.inspector.charts import Point, line_chart
from memstore_rl.inspector.recurring import Recurring
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.stored_training import STORED_SOURCES, StoredTraining, stored_training
from memstore_rl.inspector.views.training import StepRow, band_of, chosen_run, lines_of, live_training
from memstore_rl.service.live import LiveService
from memstore_rl.service.metrics import QUANTILES

WAIT_S = 0.25
"""Seconds that the first visit waits for what is stored; then the page says that it is being read."""
EVERY_S = 5
"""Seconds between two readings of a page that shows a running service."""
MAX_NAME = 1_000


def routes(site: Site) -> list[Route]:
    """Routes of the page."""
    stored = site.recurring(partial(stored_training, site.source), "training")

    async def show(request: Request) -> Response:
        given = request.query_params
        run = given["run"][:MAX_NAME] if "run" in given else None
        if site.live is not None and given.get("stored") != "1":
            live, asked = site.live, "" if run is None else "?" + urlencode({"run": run})
            return await site.page(request, "training.html", lambda: {**_live(live, run), "asked": asked})
        return await site.page(request, "stored_training.html", lambda: _stored(stored, run, site.live is not None))

    return [site.route("/training", show)]


def _live(live: LiveService, wanted: str | None) -> dict[str, object]:
    page = live_training(live, wanted)
    return {
        "page": page,
        "quantiles": QUANTILES,
        "signed": _signed,
        "seconds": _seconds,
        "every": EVERY_S,
        "sources": _sources(page.rows),
        "charts": {
            "sources": _shares(page.rows, "Sources of rewards by step", _by_source(page.rows)),
            "gap": _gap_chart(page.rows),
            "shares": _shares(
                page.rows,
                "Flips of majorities and silent groups by step",
                {"flipped majorities": lambda row: row.flip_share, "silent groups": lambda row: row.silent_share},
            ),
        },
        "addresses": _addresses(page.runs, {}),
    }


def _stored(stored: Recurring[StoredTraining], wanted: str | None, in_service: bool) -> dict[str, object]:
    computed = stored.get(WAIT_S)
    runs = {one.run: one for one in computed.value.runs} if computed.value else {}
    chosen = chosen_run(tuple(runs), wanted, "the rollouts stored with a step have no run") if runs else None
    rows = runs[chosen].rows if runs else ()
    return {
        "computed": computed,
        "in_service": in_service,
        "run": runs.get(chosen),
        "rows": rows,
        "sources": _sources(rows),
        "charts": {
            "rewards": _shares(
                rows,
                "Mean reward by step",
                {"ground truth": lambda row: row.reward, "probability": lambda row: row.predicted},
                y_name="reward",
            ),
            "sources": _shares(rows, "Sources of rewards by step", _by_source(rows)),
            "shares": _shares(rows, "Flips of majorities by step", {"flipped majorities": lambda row: row.flip_share}),
        },
        "addresses": _addresses(tuple(runs), {"stored": "1"} if in_service else {}),
    }


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else "more" if math.isinf(value) else f"{value:.3g} s"


def _addresses(runs: Sequence[str | None], common: Mapping[str, str]) -> list[tuple[str | None, str]]:
    """Each run with the part of its address after the path."""
    return [(run, "?" + urlencode({"run": run or "", **common})) for run in runs]


def _sources(rows: Sequence[StepRow]) -> list[str]:
    """The sources of some steps, in the usual order."""
    return [source for source in STORED_SOURCES if any(source in row.sources for row in rows)]


def _by_source(rows: Sequence[StepRow]) -> dict[str, Callable[[StepRow], float | None]]:
    return {source: partial(StepRow.share, source=source) for source in _sources(rows)}


def _shares(
    rows: Sequence[StepRow],
    title: str,
    figures: Mapping[str, Callable[[StepRow], float | None]],
    y_name: str = "share",
) -> Markup:
    """A chart of figures in 0..1 over the steps."""
    return line_chart(lines_of(rows, figures), title=title, x_name="step", y_name=y_name, y_range=(0, 1))


def _gap_chart(rows: Sequence[StepRow]) -> Markup:
    """The gap over the steps, with its interval and zero."""
    lines, band = lines_of(rows, {"gap where the majority is wrong": lambda row: row.gap}), band_of(rows)
    values = [point.y for line in lines.values() for point in line]
    if not values:
        return Markup("")
    low = min(0.0, *values, *(one.low for one in band))
    high = max(0.0, *values, *(one.high for one in band))
    steps = [row.first for row in rows]
    return line_chart(
        lines,
        title="The gap by step, with its 90 % interval",
        x_name="step",
        y_name="gap",
        x_range=(steps[0], steps[-1]),
        y_range=(max(-1.0, math.floor(10 * low) / 10), min(1.0, math.ceil(10 * high) / 10)),
        band=band,
        guide=(Point(steps[0], 0.0), Point(steps[-1], 0.0)),
    )
