"""The page of Cypher, and its results as files."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memstore.errors import InputError
from memstore_rl.inspector.cypher_results import FileKind, file_of, run
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.cypher import Asked, cypher_page

MAX_QUERY = 20_000
"""Characters of a query, and of its parameters."""
_MEDIA: dict[FileKind, str] = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        asked = _asked(request)
        return await site.page(
            request, "cypher.html", lambda: {"asked": asked, "result": cypher_page(site.source, asked)}, slow=True
        )

    async def download(request: Request) -> Response:
        asked, kind = _asked(request), request.path_params["kind"]
        if not asked.run or kind not in _MEDIA:
            raise InputError("there is no such file; use the links of the Cypher page")

        def make() -> bytes:
            return file_of(run(site.source, asked.text, asked.parameters), kind)

        name = {"Content-Disposition": f'attachment; filename="result.{kind}"'}
        return Response(await site.in_thread(make, slow=True), media_type=_MEDIA[kind], headers=name)

    return [site.route("/cypher", show), site.route("/cypher/result.{kind}", download)]


def _asked(request: Request) -> Asked:
    """What the address asks. A link from another site fills the box and runs nothing.

    Raises:
        InputError: the query or its parameters are too long.
    """
    given = request.query_params
    if max(len(given.get(name, "")) for name in ("query", "parameters")) > MAX_QUERY:
        raise InputError(
            f"a query and its parameters have at most {MAX_QUERY:,} characters each; "
            "run a longer one in a terminal: memstore cypher -"
        )
    return Asked(
        text=given.get("query", ""),
        parameters=given.get("parameters", ""),
        named=given.get("named", ""),
        draw=given.get("draw") == "1",
        run=request.headers.get("sec-fetch-site") != "cross-site",
    )
