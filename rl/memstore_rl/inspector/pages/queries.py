"""The list of queries, with search and filters in the address."""

from __future__ import annotations

from typing import get_args
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from memstore.graph.query_filter import Labels, QueryFilter, Where
from memstore.types import DOMAINS
from memstore_rl.inspector.addresses import choice
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.queries import page_of_id, query_list
from memstore_schema.columns import NodeLabel

MAX_SEARCH = 1_000


def routes(site: Site) -> list[Route]:
    """Routes of the list."""

    async def show(request: Request) -> Response:
        wanted, after = _wanted(request), request.query_params.get("after", "")[:200]
        if wanted.search:
            page = await site.in_thread(lambda: page_of_id(site.source, wanted.search))
            if page is not None:
                return RedirectResponse(f"{request.scope.get('root_path', '')}/{page}", 303)

        def view() -> dict[str, object]:
            datasets = site.source.nodes(NodeLabel.DATASET, ["name"])["name"].to_pylist()
            found = query_list(site.source, wanted, after)
            following = None if found.after is None else urlencode({**_given(wanted), "after": found.after})
            return {
                "found": found,
                "wanted": wanted,
                "datasets": datasets,
                "domains": DOMAINS,
                "first": urlencode(_given(wanted)),
                "following": following,
                "begins": not after,
            }

        return await site.page(request, "queries.html", view, slow=bool(wanted.search))

    return [site.route("/queries", show)]


def _wanted(request: Request) -> QueryFilter:
    given = request.query_params
    return QueryFilter(
        search=given.get("search", "").strip()[:MAX_SEARCH],
        where=choice(given, "where", get_args(Where), "text"),
        dataset=given.get("dataset", "")[:MAX_SEARCH],
        domain=choice(given, "domain", DOMAINS, ""),
        labels=choice(given, "labels", get_args(Labels), "any"),
    )


def _given(wanted: QueryFilter) -> dict[str, str]:
    """The parts of an address that say what is wanted, without those that are no condition."""
    values = {"search": wanted.search, "dataset": wanted.dataset, "domain": wanted.domain}
    values |= {
        "where": wanted.where if wanted.search else "",
        "labels": "" if wanted.labels == "any" else wanted.labels,
    }
    return {name: value for name, value in values.items() if value}
