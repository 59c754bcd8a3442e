"""The page of the queue: labelling one query at a time, by keys, buttons or forms."""

from __future__ import annotations

from typing import get_args
from urllib.parse import quote, unquote, urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from memstore.errors import InputError, ReadOnlyError
from memstore.labels.questions import Shown
from memstore_gnn.queue.choose import Criterion
from memstore_rl.inspector.addresses import choice
from memstore_rl.inspector.desk import Desk
from memstore_rl.inspector.security import SESSION_S, cookie_path
from memstore_rl.inspector.site import Site
from memstore_rl.inspector.views.queue import queue_page

NAME_COOKIE = "memstore_name"
"""Who labels; it lasts as long as a session."""
MAX_NAME, MAX_REASON, MAX_SHOWN = 80, 2_000, 20_000
READ_ONLY = "no query can be labelled here, because these pages are read-only; open a memory, without --read-only"


def routes(site: Site) -> list[Route]:
    """Routes of the page."""

    async def show(request: Request) -> Response:
        desk, query = _desk(site), request.query_params.get("query")
        name, person = _name(request), request.state.session
        return await site.page(
            request,
            "queue.html",
            lambda: {"page": queue_page(desk, person, query) if name else None, "name": name, "query": query},
        )

    async def press(request: Request) -> Response:
        form = await site.form(request)
        desk, query, key = _desk(site), str(form.get("query", ""))[:200], str(form.get("key", ""))[:20]
        reason = str(form.get("reason", "")).strip()[:MAX_REASON]
        overwrite, name = form.get("replace") == "1", _name(request)
        person, shown = request.state.session, _shown(form)
        outcome = await site.in_thread(
            lambda: desk.press(person, key, query, shown, by=name, reason=reason, replace=overwrite)
        )
        stays = (overwrite or form.get("alone") == "1") and outcome.failed and not outcome.conflict
        return _to_queue(request, query if stays else None)

    async def rescored(request: Request) -> Response:
        running, sentence = _desk(site).rescoring() or (False, "")
        return JSONResponse({"running": running, "sentence": sentence})

    async def choose(request: Request) -> Response:
        criterion: Criterion = choice(await site.form(request), "criterion", get_args(Criterion), "pages")
        _desk(site).queue.choose(criterion)
        return _to_queue(request)

    async def introduce(request: Request) -> Response:
        form = await site.form(request)
        name = " ".join(str(form.get("name", "")).split())
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise InputError(
                f"a name is needed, of at most {MAX_NAME} characters, none of them invisible; go back and write yours"
            )
        response = _to_queue(request, str(form.get("query", ""))[:200] or None)
        secure, path = request.url.scheme == "https", cookie_path(request)
        response.set_cookie(
            NAME_COOKIE, quote(name), max_age=SESSION_S, path=path, secure=secure, httponly=True, samesite="strict"
        )
        return response

    return [
        site.route("/queue", show),
        site.route("/queue/rescored", rescored),
        site.route("/queue/press", press, ("POST",)),
        site.route("/queue/choose", choose, ("POST",)),
        site.route("/queue/name", introduce, ("POST",)),
    ]


def _desk(site: Site) -> Desk:
    if site.desk is None:
        raise ReadOnlyError(READ_ONLY)
    return site.desk


def _name(request: Request) -> str:
    """Who labels; "" if the person has not said."""
    name = unquote(request.cookies.get(NAME_COOKIE, ""))
    return name if name.isprintable() and len(name) <= MAX_NAME else ""


def _shown(form: FormData) -> Shown:
    """The answers that a page has shown, as it sends them."""
    answers = str(form.get("shown", ""))[:MAX_SHOWN]
    return Shown(tuple(answers.split(",")) if answers else (), str(form.get("state", ""))[:64])


def _to_queue(request: Request, query: str | None = None) -> Response:
    chosen = f"?{urlencode({'query': query})}" if query else ""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/queue{chosen}", 303)
