"""Who may see the pages and send their forms, and the headers that keep a page from running anything but its own.

With a token, a person logs in with it once. The session is a cookie that a script cannot read and that no other site's
request carries: a random value, the time at which it ends, and their HMAC under the token, so that it survives a
restart and ends with the token. Without a token the pages are for this machine only: the Host must be a loopback name.

A form carries a CSRF token, the HMAC of the session. A request that sends one from another origin is refused.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable

from pydantic import SecretStr
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from memstore.errors import InputError
from memstore_rl.service.app import loopback_refusal, origin_host

COOKIE = "memstore_session"
SESSION_S = 12 * 3600
"""Seconds that a session lasts."""
MAX_DIGITS = 20
"""Digits of a session's end are fewer."""
CSRF_FIELD = "csrf"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response. Static files replace Cache-Control."""


class Login:
    """Sessions of the people who look at the pages."""

    def __init__(self, token: SecretStr | None, now: Callable[[], float] = time.time) -> None:
        self.required = token is not None
        self._token = token.get_secret_value() if token is not None else ""
        self._now = now

    def accepts(self, given: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return self.required and hmac.compare_digest(given.strip().encode(), self._token.encode())

    def new_session(self) -> str:
        """A session that begins now."""
        named = f"{secrets.token_urlsafe(18)}.{int(self._now()) + SESSION_S}"
        return f"{named}.{self._hmac('session', named)}"

    def session_of(self, request: Request) -> str | None:
        """The session of a request; None without a valid one."""
        named, _, signature = request.cookies.get(COOKIE, "").rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._hmac("session", named).encode()):
            return None
        end = named.rpartition(".")[2]
        return named if end.isdecimal() and len(end) < MAX_DIGITS and int(end) > self._now() else None

    def csrf_of(self, session: str) -> str:
        """The token that the forms of a session carry."""
        return self._hmac("csrf", session)

    def check_form(self, request: Request, form: FormData) -> None:
        """Refuse a form that another site, or another session, has made.

        Raises:
            InputError: the form is not one of this session.
        """
        session, given = self.session_of(request), str(form.get(CSRF_FIELD, ""))
        if session is None or not hmac.compare_digest(given.encode(), self.csrf_of(session).encode()):
            raise InputError(
                "this form is not of your session, which may have ended; reload the page and send it again"
            )

    def _hmac(self, purpose: str, text: str) -> str:
        return hmac.new(self._token.encode(), f"memstore {purpose} {text}".encode(), "sha256").hexdigest()


def start_session(response: Response, request: Request, session: str) -> None:
    """Set the cookie of a session; its path is the pages' own."""
    response.set_cookie(
        COOKIE,
        session,
        max_age=SESSION_S,
        path=cookie_path(request),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def cookie_path(request: Request) -> str:
    """The path under which the pages are."""
    return str(request.scope.get("root_path") or "/")


def refusal_of(request: Request, login: Login) -> tuple[int, str] | None:
    """Status and sentence for a request that may not be served, whoever sends it; None if it may.

    Without a token only this machine is served, and no request of another site's page. With one, a request that
    changes something must come from a page of this host.
    """
    if not login.required and (refused := loopback_refusal(request)) is not None:
        return refused
    origin = request.headers.get("origin")
    changes = request.method not in ("GET", "HEAD")
    if changes and origin is not None and origin_host(origin) != request.headers.get("host"):
        return 403, "this request comes from another site's page; open the pages of this service instead"
    return None
