"""The ASGI application of the pages: routes, sessions, headers. Mount it under `site.PREFIX`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memstore_rl.inspector.label_queue import QueueEntry
from memstore_rl.inspector.pages import (
    cypher,
    disagreements,
    evaluation,
    login,
    overview,
    propagation,
    queries,
    query,
    queue,
    rollout,
    timeline,
    training,
)
from memstore_rl.inspector.security import HEADERS, Login, refusal_of, start_session
from memstore_rl.inspector.site import NavItem, Site
from memstore_rl.inspector.source import Source
from memstore_rl.service.live import LiveService

NAVIGATION = (
    NavItem("/", "Memory"),
    NavItem("/queries", "Queries"),
    NavItem("/queue", "Queue"),
    NavItem("/disagreements", "Disagreements"),
    NavItem("/training", "Training"),
    NavItem("/evaluation", "Evaluation"),
    NavItem("/cypher", "Cypher"),
)
_PAGES = (
    overview,
    queries,
    query,
    timeline,
    rollout,
    propagation,
    queue,
    disagreements,
    training,
    evaluation,
    cypher,
    login,
)
_OPEN = ("/login", "/static/")
"""Beginnings of the paths that need no login."""
_STATIC = Path(__file__).parent / "static"


def make_pages(
    source: Source,
    *,
    token: SecretStr | None = None,
    queue: Sequence[QueueEntry] = (),
    live: LiveService | None = None,
    rescore: bool = False,
) -> Starlette:
    """Create the pages of a memory or snapshot.

    Args:
        source: what they show; it must stay open as long as they are served.
        token: what a person logs in with; None serves this machine only, without a login.
        queue: the queries to label; people can choose others on the page.
        live: the service that has the memory open; None: there is none.
        rescore: after each verdict, score the rollouts near it again in the background.
    """
    site = Site(source, Login(token), NAVIGATION, queue, live, rescore=rescore)
    routes = [route for page in _PAGES for route in page.routes(site)]

    async def not_there(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        sentence = "there is no such page; the links above lead to all there are"
        page = site.error(request, status, sentence if status == 404 else "this page does not take such a request")
        page.headers.update((isinstance(error, HTTPException) and error.headers) or {})
        return page

    app = Starlette(
        routes=[*routes, Mount("/static", StaticFiles(directory=_STATIC))],
        exception_handlers={HTTPException: not_there},
    )
    app.state.site = site
    app.add_middleware(_Guard, site=site)
    return app


class _Guard:
    """Checks who sends a request, begins sessions, and sets the headers of every response."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, login = Request(scope), self._site.login
        session, new = login.session_of(request), None
        if session is None and not login.required:
            new = login.new_session()
            session = new.rpartition(".")[0]
        request.state.session = session

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if new is not None:
                    cookie = Response()
                    start_session(cookie, request, new)
                    headers.append("set-cookie", cookie.headers["set-cookie"])
            await send(message)

        await (self._rejection(request, session) or self._app)(scope, receive, send_with_headers)

    def _rejection(self, request: Request, session: str | None) -> Response | None:
        """The response to a request that is not allowed."""
        if (refused := refusal_of(request, self._site.login)) is not None:
            return self._site.error(request, *refused)
        root = str(request.scope.get("root_path", ""))
        path = request.url.path.removeprefix(root)
        if session is not None or path.startswith(_OPEN):
            return None
        if request.method in ("GET", "HEAD"):
            address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{root}/login?{urlencode({'next': address})}", 303)
        return self._site.error(
            request, 401, "you are not logged in, or your session has ended; log in and send it again"
        )
