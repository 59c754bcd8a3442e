"""The page of disagreements."""

from __future__ import annotations

from functools import partial
from typing import get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memstore_rl.inspector.addresses import choice
from memstore_rl.inspector.disagreements import Kind, find_disagreements
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.disagreements import TITLES, Order, disagreement_page

WAIT_S = 0.25
"""Seconds that the first visit waits; then the page says that the memory is being compared."""


def routes(site: Site) -> list[Route]:
    """Routes of the page."""
    found = site.recurring(partial(find_disagreements, site.source), "disagreements")

    async def show(request: Request) -> Response:
        given = request.query_params
        kind: Kind = choice(given, "kind", get_args(Kind), "truth")
        order: Order = choice(given, "sort", get_args(Order), "gap")
        after = given.get("after", "")[:500]

        def view() -> dict[str, object]:
            computed = found.get(WAIT_S)
            page = (
                None if computed.value is None else disagreement_page(site.source, computed.value, kind, order, after)
            )
            following = None
            if page is not None and page.after is not None:
                following = urlencode({"kind": kind, "sort": order, "after": page.after})
            return {
                "computed": computed,
                "page": page,
                "kind": kind,
                "order": order,
                "titles": TITLES,
                "following": following,
                "begins": not after,
            }

        return await site.page(request, "disagreements.html", view)

    return [site.route("/disagreements", show)]
