"""The timeline of a query, with charts of its answers and rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memstore.errors import InputError
from memstore_rl.inspector.addresses import SHOWN
from memstore_rl.inspector.charts import Point, line_chart
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.texts import one_line
from memstore_rl.inspector.views.timeline import FLIPS, Moment, Series, Timeline, timeline

POINTS = 150
"""Points of a line at most; a point of more steps is their mean."""
LEGEND = 40
"""Characters of an answer in a legend."""


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        name, given = request.path_params["query"], request.query_params
        chosen = (given.get("policy") or None, given.get("run") or None)
        series = chosen if {"policy", "run"} & set(given) else None
        after = _after(given.get("after"))

        def view() -> dict[str, object]:
            found = timeline(site.source, name, series)
            page = found.page(after)
            more = bool(page) and page[-1] is not found.moments[-1]
            return {
                "found": found,
                "page": page,
                "shares": _shares(found),
                "rewards": _rewards(found),
                "flips": found.flips[:FLIPS],
                "address": _address,
                "group": _group,
                "following": page[-1].step if more else None,
                "begins": after is None,
            }

        return await site.page(request, "timeline.html", view)

    return [site.route("/query/{query}/timeline", show)]


def _after(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{text[:SHOWN]!r} is not a step; follow a link of the timeline") from None


def _address(series: Series, after: int | None = None) -> str:
    """The part of an address after the path of the page; an empty name is none."""
    return _query({"policy": series.policy or "", "run": series.run or "", "after": after})


def _group(series: Series, moment: Moment) -> str:
    """The part of an address after the query's id: the group of a step."""
    return _query({"policy": series.policy, "run": series.run, "step": moment.step})


def _query(parts: dict[str, object]) -> str:
    return "?" + urlencode({name: value for name, value in parts.items() if value is not None})


def _shares(found: Timeline) -> object:
    """Shares of the answers over the steps; numbers keep equal beginnings of texts apart."""
    names = [f"{at}: {one_line(answer.text, LEGEND) or 'no answer'}" for at, answer in enumerate(found.answers, 1)]
    names += ["others"] if found.others else []
    lines = {name: _line(found.stepped, _share_of(at)) for at, name in enumerate(names)}
    title = "Share of each answer among the rollouts of a step"
    return line_chart(lines, title=title, x_name="step", y_name="share", y_range=(0, 1)) if found.stepped else ""


def _share_of(at: int) -> Callable[[Moment], float | None]:
    return lambda moment: moment.shares[at]


def _rewards(found: Timeline) -> object:
    """Mean rewards over the steps."""
    lines = {
        "true, of rollouts with a label": _line(found.stepped, lambda moment: moment.reward),
        "predicted": _line(found.stepped, lambda moment: moment.predicted),
    }
    known = {name: line for name, line in lines.items() if line}
    return line_chart(known, title="Mean reward of a step", x_name="step", y_name="reward", y_range=(0, 1))


def _line(moments: Sequence[Moment], value: Callable[[Moment], float | None]) -> list[Point]:
    """The known values by step; the means of neighbouring steps where there are more than `POINTS`."""
    known = [(moment.step, y) for moment in moments if moment.step is not None and (y := value(moment)) is not None]
    size = -(-len(known) // POINTS) or 1
    parts = [known[start : start + size] for start in range(0, len(known), size)]
    return [Point(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]
