"""The page of the memory."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memstore_rl.inspector.charts import line_chart
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.overview import Overview

WAIT_S = 0.25
"""Seconds that the first visit waits for the counts; then the page says that they are being made."""


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        def view() -> dict[str, object]:
            computed = site.overview.get(WAIT_S)
            return {"computed": computed, "memory": computed.value, "chart": _chart(computed.value)}

        return await site.page(request, "overview.html", view)

    return [site.route("/", show)]


def _chart(memory: Overview | None) -> object:
    """Mean reward over steps of the runs with most rollouts."""
    if memory is None:
        return ""
    lines = {f"{row.run or 'no run'}, {row.policy or 'no policy'}": row.line for row in memory.runs if row.line}
    return line_chart(
        lines, title="Mean reward of each run over its steps", x_name="step", y_name="reward", y_range=(0, 1)
    )
