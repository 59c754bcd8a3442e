"""One exchange with an endpoint: a request goes out, and its answer comes back as a body or as one of three failures.

    200                           the body
    408, 409, 425, 429, 5xx       Unanswered: it may fare better later, at the earliest when Retry-After says
    no connection, cut, no time   Unanswered; `gone` where there may be nobody any more
    401, 403, 404, a redirect     EndpointError: no request will fare better
    any other status              Refused: this request will not, however often it is sent

No message holds the key, not even where the server repeats it. A redirect is not followed: prompts and key go where the
user said, and nowhere else.
"""

from __future__ import annotations

import json
import urllib.request
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr

from memstore.errors import InputError, MemstoreError
from memstore_rl.rollout.retry_policy import Patience, retry_after_s
from memstore_rl.rollout.wire import server_words

_AGAIN = frozenset({408, 409, 425, 429})
_AWAY = frozenset({502, 503, 504})
_CONNECT_S = 20.0
_NAMED_MODELS = 5
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that no proxy can reach for us."""


class EndpointError(MemstoreError):
    """The endpoint cannot be had, or takes none of these requests."""


class Refused(Exception):
    """The server will not answer this request, however often it is sent."""


class Unanswered(Exception):
    """A try that failed and may fare better later."""

    def __init__(self, reason: str, *, gone: bool = False, hint_s: float | None = None) -> None:
        super().__init__(reason)
        self.gone = gone
        """There may be no server any more."""
        self.hint_s = hint_s
        """Seconds after which the server wants to be asked again."""


def base_url(endpoint: str) -> str:
    """An endpoint as it was given, as the address that paths are put behind.

    Raises:
        InputError: it is no address.
    """
    try:
        parts = urlsplit(endpoint.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"{endpoint!r} is no address of an endpoint; it looks like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError("an endpoint's address has no user, password or query; give the key in a file")
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/completions"):
        path = path.removesuffix(ending)
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


class Exchange:
    """The connections to one endpoint; an async context manager."""

    def __init__(self, url: str, model: str, key: SecretStr | None, patience: Patience, connections: int) -> None:
        """Connect when something is asked; for one event loop, which runs.

        Args:
            url: as `base_url` gives it.
            model: named where the endpoint does not know it.
        """
        self.url = url
        self._model = model
        self._key = key.get_secret_value() if key is not None else ""
        self._timeout_s = patience.timeout_s
        self._proxy = _proxy_of(url)
        self._models: list[str] = []
        self.reason = ""
        """Why nobody was there when it was last looked."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._http = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=connections))

    async def is_there(self) -> bool:
        """Does anybody answer? Notes which models he has, if he tells.

        Raises:
            EndpointError: he does not take our key.
        """
        try:
            content = await self._request("GET", self.url + "/models", None, _CONNECT_S)
        except Refused:
            return True  # a server need not tell its models
        except Unanswered as error:
            self.reason = str(error)
            return not error.gone
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            self._models = [str(model["id"]) for model in json.loads(content)["data"]]
        return True

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        """Send a request; the body of a good answer.

        Raises:
            Refused, Unanswered, EndpointError: as the module says.
        """
        return await self._request("POST", self.url + path, json.dumps(body).encode(), self._timeout_s)

    async def _request(self, method: str, url: str, body: bytes | None, timeout_s: float) -> bytes:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_S)
        try:
            async with self._http.request(
                method, url, data=body, proxy=self._proxy, allow_redirects=False, timeout=timeout
            ) as response:
                content = await response.read()
        except aiohttp.ClientError as error:
            raise Unanswered(self._without_key(str(error)) or type(error).__name__, gone=True) from error
        except TimeoutError as error:
            raise Unanswered(f"no answer within {timeout_s:g} s") from error
        if response.status == 200:
            return content
        raise self._failure(response, content, method)

    def _failure(self, response: aiohttp.ClientResponse, content: bytes, method: str) -> Exception:
        """What a bad status means."""
        status, words = response.status, self._without_key(server_words(content))
        if status in _AGAIN or status >= 500:
            hint_s = retry_after_s(response.headers.get("Retry-After"))
            return Unanswered(f"status {status}: {words}", gone=status in _AWAY, hint_s=hint_s)
        if status in (401, 403):
            given = "the key" if self._key else "a request without a key"
            return EndpointError(f"{self.url} refuses {given} (status {status}): {words}")
        if method == "POST" and 300 <= status < 400:
            target = response.headers.get("Location", "nowhere")
            return EndpointError(f"{self.url} sends requests on to {target}; name that endpoint, if it is to have them")
        if method == "POST" and status == 404:
            named = f"; it has {', '.join(self._models[:_NAMED_MODELS])}" if self._models else ""
            return EndpointError(f"{self.url} does not have the model {self._model!r} (status 404: {words}){named}")
        return Refused(f"status {status}: {words}")

    def _without_key(self, words: str) -> str:
        """A server may repeat the key that it was sent."""
        return words.replace(self._key, "***") if self._key else words

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this address; looked up once, not with every request."""
    parts = urlsplit(url)
    if parts.hostname in _LOOPBACK or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
