"""Logging in and out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from memstore_rl.inspector.forms import read_form
from memstore_rl.inspector.security import COOKIE, cookie_path, start_session
from memstore_rl.inspector.site import Site

MAX_FORM, MAX_FIELDS = 16 * 2**10, 10
"""Bytes and fields of a form; a token has less."""


def routes(site: Site) -> list[Route]:
    """Routes of the login."""

    async def log_in(request: Request) -> Response:
        following = _following(request)
        if not site.login.required:
            return RedirectResponse(following, 303)
        if request.method != "POST":
            return site.render(request, "login.html", {"following": following, "failure": None})
        form = await read_form(request, most_bytes=MAX_FORM, most_fields=MAX_FIELDS)
        if not site.login.accepts(str(form.get("token", ""))):
            failure = (
                "this is not the token of the service; it is the one that memstore serve or inspect was started with"
            )
            return site.render(request, "login.html", {"following": following, "failure": failure}, 401)
        response = RedirectResponse(following, 303)
        start_session(response, request, site.login.new_session())
        return response

    async def log_out(request: Request) -> Response:
        site.login.check_form(request, await read_form(request, most_bytes=MAX_FORM, most_fields=MAX_FIELDS))
        response = RedirectResponse(f"{request.scope.get('root_path', '')}/login", 303)
        response.delete_cookie(COOKIE, path=cookie_path(request))
        return response

    return [site.route("/login", log_in, ("GET", "POST")), site.route("/logout", log_out, ("POST",))]


def _following(request: Request) -> str:
    """The page to show after the login: one of these pages, whatever the address says."""
    root = str(request.scope.get("root_path", ""))
    given = request.query_params.get("next", "")
    safe = given.startswith(f"{root}/") and "\\" not in given and not given.startswith("//") and given.isprintable()
    return given if safe else f"{root}/"
