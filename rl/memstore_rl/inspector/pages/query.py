"""The group sheet of a query, and the addresses of answers and policies."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from memstore.errors import InputError
from memstore_rl.inspector.addresses import SHOWN
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.group import Group, GroupSheet, group_sheet
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.policy import policy_page
from memstore_schema.columns import EdgeType, NodeLabel


def routes(site: Site) -> list[Route]:
    """Routes of the sheet."""

    async def show(request: Request) -> Response:
        name, group = request.path_params["query"], _group(request)
        answer, after = request.query_params.get("answer"), request.query_params.get("after", "")

        def view() -> dict[str, object]:
            sheet = group_sheet(site.source, name, group, answer, after)
            return {"sheet": sheet, "address": lambda **changes: _address(sheet, **changes)}

        return await site.page(request, "query.html", view)

    async def show_answer(request: Request) -> Response:
        name = request.path_params["answer"]
        query = await site.in_thread(lambda: _query_of(site, name))
        return RedirectResponse(
            f"{request.scope.get('root_path', '')}/query/{query}?{urlencode({'answer': name})}", 303
        )

    async def show_policy(request: Request) -> Response:
        name = request.path_params["policy"]
        return await site.page(request, "policy.html", lambda: {"policy": policy_page(site.source, name)})

    return [
        site.route("/query/{query}", show),
        site.route("/answer/{answer}", show_answer),
        site.route("/policy/{policy}", show_policy),
    ]


def _group(request: Request) -> Group | None:
    """The group that an address names; an absent part is one that the rollouts do not have."""
    given = request.query_params
    if not {"policy", "run", "step"} & set(given):
        return None
    try:
        step = int(given["step"]) if "step" in given else None
    except ValueError:
        raise InputError(f"{given['step'][:SHOWN]!r} is not a step; follow a link of the query's page") from None
    return Group(given.get("policy"), given.get("run"), step)


def _address(sheet: GroupSheet, group: Group | None = None, answer: str | None = None, after: str | None = None) -> str:
    """The part of an address after the query's id."""
    chosen = group or sheet.chosen
    parts: dict[str, object] = {}
    if chosen is not None:
        parts = {"policy": chosen.policy, "run": chosen.run, "step": chosen.step}
    parts |= {"answer": answer, "after": after}
    return "?" + urlencode({name: value for name, value in parts.items() if value is not None})


def _query_of(site: Site, answer: str) -> str:
    leads = site.source.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [answer], by="target")
    if not len(leads):
        raise NotThere(f"there is no answer {answer}; search for its query by its text or key")
    rollout = [leads["source_id"][0].as_py()]
    generates = site.source.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, rollout, by="target")
    return str(generates["source_id"][0].as_py())
