"""The page of Cypher, and its results as files."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memstore.errors import InputError
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.cypher import FILE_ROWS, Asked, as_csv, as_json, cypher_page, run

MAX_QUERY = 20_000


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        asked = _asked(request)
        return await site.page(
            request, "cypher.html", lambda: {"asked": asked, "result": cypher_page(site.source, asked)}, slow=True
        )

    async def download(request: Request) -> Response:
        asked, kind = _asked(request), request.path_params["kind"]
        if not asked.run or kind not in ("csv", "json"):
            raise InputError("there is no such file; use the links of the Cypher page")

        def make() -> str:
            columns, rows = run(site.source, asked.text, asked.parameters, FILE_ROWS)
            return as_csv(columns, rows) if kind == "csv" else as_json(columns, rows)

        media = {"csv": "text/csv; charset=utf-8", "json": "application/json"}[kind]
        name = {"Content-Disposition": f'attachment; filename="result.{kind}"'}
        return Response(await site.in_thread(make, slow=True), media_type=media, headers=name)

    return [site.route("/cypher", show), site.route("/cypher/result.{kind}", download)]


def _asked(request: Request) -> Asked:
    """What the address asks. A link from another site fills the box and runs nothing."""
    given = request.query_params
    return Asked(
        text=given.get("query", "")[:MAX_QUERY],
        parameters=given.get("parameters", "")[:MAX_QUERY],
        named=given.get("named", ""),
        draw=given.get("draw") == "1",
        run=request.headers.get("sec-fetch-site") != "cross-site",
    )
