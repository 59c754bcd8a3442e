"""The page of evaluations."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memstore.errors import InputError
from memstore_gnn.evaluation.curves import METRICS as DRAWN
from memstore_gnn.metrics import Metrics
from memstore_rl.inspector.evaluation_charts import budget_charts, calibration_chart, risk_chart
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.evaluation import EvaluationPage, evaluation_page

MAX_DIGITS = 6


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        given = request.query_params
        number = _number(given.get("number", "0"))
        dataset = given.get("dataset") or None

        def view() -> dict[str, object]:
            page = evaluation_page(site.source, given.get("model") or None, dataset, number)
            return {"page": page, "metrics": Metrics._fields, "drawn": DRAWN, "charts": _charts(page)}

        return await site.page(request, "evaluation.html", view)

    return [site.route("/evaluation", show)]


def _number(given: str) -> int:
    if not given.isascii() or not given.isdigit() or len(given) > MAX_DIGITS:
        raise InputError(f"{given[:20]!r} is not the number of an evaluation; follow a link of the page Evaluation")
    return int(given)


def _charts(page: EvaluationPage) -> dict[str, object]:
    """The charts of the dataset that is shown, by name; without a curve, an empty one."""
    if page.comparison is None or page.dataset is None:
        return {}
    curves, dataset = page.comparison.curves, page.dataset
    drawn: dict[str, object] = dict(budget_charts(curves, dataset)) if dataset in curves.budgets else {}
    drawn["calibration"] = calibration_chart(curves, dataset) if dataset in curves.calibration else ""
    drawn["risk"] = risk_chart(curves, dataset) if dataset in curves.risk_coverage else ""
    return drawn
