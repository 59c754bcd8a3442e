"""The page of a neighbourhood. Its address has the centres, so that every step of an exploration can be sent."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from memstore_rl.inspector.drawing import DrawnNode, page_of
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.propagation import CENTRE_LABELS, CENTRES, Propagation, propagation


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        given = [name.strip() for name in request.query_params.getlist("node")]
        centres = [name for name in given if name]

        def view() -> dict[str, object]:
            return _values(propagation(site.source, centres) if centres else None)

        return await site.page(request, "propagation.html", view)

    return [site.route("/propagation", show)]


def _values(found: Propagation | None) -> dict[str, object]:
    centres = found.centres if found else ()

    def expand(node: DrawnNode) -> str | None:
        """With this node as one more centre, the oldest of too many left out; the page of a centre."""
        if node.label not in CENTRE_LABELS or node.id in centres:
            return page_of(node)
        return address([*centres, node.id][-CENTRES:])

    return {
        "found": found,
        "kept": centres[-(CENTRES - 1) :],
        "expand": expand,
        "page_of": page_of,
        "address": address,
        "can_be_centre": CENTRE_LABELS,
    }


def address(centres: Sequence[str]) -> str:
    """Path of the page of these centres."""
    return "propagation?" + urlencode([("node", name) for name in centres])
