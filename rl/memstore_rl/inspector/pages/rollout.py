"""The page of a rollout, and its whole text."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.rollout import rollout_page, whole_text


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        name = request.path_params["rollout"]
        return await site.page(request, "rollout.html", lambda: {"rollout": rollout_page(site.source, name)})

    async def show_text(request: Request) -> Response:
        name = request.path_params["rollout"]
        return PlainTextResponse(await site.in_thread(lambda: whole_text(site.source, name)))

    return [site.route("/rollout/{rollout}", show), site.route("/rollout/{rollout}/text", show_text)]
