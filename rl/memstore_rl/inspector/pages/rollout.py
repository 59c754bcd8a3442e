"""The page of a rollout, its whole text, and the button that explains its score."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.rollout import rollout_page, whole_text
from memstore_schema.columns import NodeLabel


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        name = request.path_params["rollout"]

        def view() -> dict[str, object]:
            explaining = site.explainer.state(name) if site.explainer else None  # before the evidence is read
            return {"explaining": explaining, "rollout": rollout_page(site.source, name)}

        return await site.page(request, "rollout.html", view)

    async def explain(request: Request) -> Response:
        await site.form(request)
        name = request.path_params["rollout"]
        if not await site.in_thread(lambda: len(site.source.nodes(NodeLabel.THINKING, ["id"], ids=[name]))):
            raise NotThere(f"there is no rollout {name}; search for its query by its text or key")
        if site.explainer is not None:
            site.explainer.start(name)
        return RedirectResponse(f"{request.scope.get('root_path', '')}/rollout/{name}#evidence", 303)

    async def show_text(request: Request) -> Response:
        name = request.path_params["rollout"]
        return PlainTextResponse(await site.in_thread(lambda: whole_text(site.source, name)))

    return [
        site.route("/rollout/{rollout}", show),
        site.route("/rollout/{rollout}/text", show_text),
        site.route("/rollout/{rollout}/explain", explain, ("POST",)),
    ]
