"""HTTP client of an OpenAI-compatible endpoint: sends one request and classifies the response.

    200                                   the body
    408, 409, 425, 429, 5xx               RetryableFailure, with the delay of Retry-After
    no connection, connection lost,       RetryableFailure; `unreachable` if the server may be down
    timeout
    401, 403, 404, redirect               EndpointError: no request can succeed
    any other status                      RequestRejected: this request can never succeed

No message contains the key, even if the server repeats it. Redirects are not followed, so that prompts and the key go
only to the address that the user gave.

The client is aiohttp, not httpx, for its CPU time: with 256 concurrent requests a request costs .25 ms, against 10.5 ms
with one httpx client (its connection pool scans all requests at every state change) and .97 ms with 256 httpx clients.
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
from memstore.runtime.retry import retry_after_s
from memstore_rl.rollout.openai_format import error_message

_RETRYABLE = frozenset({408, 409, 425, 429})
_UNREACHABLE = frozenset({502, 503, 504})
"""Statuses of a gateway without a server behind it, or of a server that is still starting."""
_CONNECT_TIMEOUT_S = 20.0
_MAX_MODELS_NAMED = 5
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that are never reached through a proxy."""


class EndpointError(MemstoreError):
    """The endpoint cannot be used: it is unreachable, refuses the key, or does not have the model."""


class RequestRejected(Exception):
    """The server rejects this request; sending it again would not help."""


class RetryableFailure(Exception):
    """A request failed in a way that a retry may fix."""

    def __init__(self, reason: str, *, unreachable: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        """The server may be down."""
        self.retry_after_s = retry_after_s
        """Seconds to wait before the next try, as the server asks."""
        self.tries = 1
        """Tries of the request so far."""


def base_url(endpoint: str) -> str:
    """Normalize an endpoint's address to the form that paths are appended to.

    Raises:
        InputError: not an HTTP address, or it contains a user, password or query.
    """
    try:
        parts = urlsplit(endpoint.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"{endpoint!r} is not an endpoint's address; pass one like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError("an endpoint's address must not contain a user, password or query; pass the key in a file")
    path = parts.path.rstrip("/")
    for suffix in ("/chat/completions", "/completions"):
        path = path.removesuffix(suffix)
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


class EndpointClient:
    """A connection pool for one endpoint; an async context manager."""

    def __init__(self, url: str, model: str, key: SecretStr | None, *, timeout_s: float, connections: int) -> None:
        """Create it inside a running event loop; it connects on the first request.

        Args:
            url: as `base_url` returns it.
            model: named in the error if the endpoint does not have it.
            timeout_s: limit of one request, from the first byte sent to the last byte received.
            connections: limit of open connections.
        """
        self.url = url
        self._model = model
        self._key = key.get_secret_value() if key is not None else ""
        self._timeout_s = timeout_s
        self._proxy = _proxy_of(url)
        self._models: list[str] = []
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._http = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=connections))

    async def probe(self) -> None:
        """Check that the server responds, and cache its model list for error messages.

        Raises:
            RetryableFailure: the server is unreachable.
            EndpointError: the server refuses the key.
        """
        try:
            content = await self._request("GET", self.url + "/models", None, _CONNECT_TIMEOUT_S)
        except RequestRejected:
            return  # listing models is optional
        except RetryableFailure as error:
            if error.unreachable:
                raise
            return
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            self._models = [str(model["id"]) for model in json.loads(content)["data"]]

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        """Send a request; return the body of a successful response.

        Raises:
            RequestRejected, RetryableFailure, EndpointError: see the module.
        """
        return await self._request("POST", self.url + path, json.dumps(body).encode(), self._timeout_s)

    async def _request(self, method: str, url: str, body: bytes | None, timeout_s: float) -> bytes:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
        try:
            async with self._http.request(
                method, url, data=body, proxy=self._proxy, allow_redirects=False, timeout=timeout
            ) as response:
                content = await response.read()
        except aiohttp.ClientError as error:
            raise RetryableFailure(self._redact(str(error)) or type(error).__name__, unreachable=True) from error
        except TimeoutError as error:
            raise RetryableFailure(f"no response within {timeout_s:g} s") from error
        if response.status == 200:
            return content
        raise self._failure(response, content, method)

    def _failure(self, response: aiohttp.ClientResponse, content: bytes, method: str) -> Exception:
        """The exception for a response whose status is not 200."""
        status, message = response.status, self._redact(error_message(content))
        if status in _RETRYABLE or status >= 500:
            delay_s = retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"))
            return RetryableFailure(
                f"status {status}: {message}", unreachable=status in _UNREACHABLE, retry_after_s=delay_s
            )
        if status in (401, 403):
            refused = "the key" if self._key else "a request without a key"
            return EndpointError(f"{self.url} refuses {refused} (status {status}): {message}")
        if method == "POST" and 300 <= status < 400:
            target = response.headers.get("Location", "an unnamed address")
            return EndpointError(f"{self.url} redirects to {target}; pass that address as the endpoint if you trust it")
        if method == "POST" and status == 404:
            available = f"; it has {', '.join(self._models[:_MAX_MODELS_NAMED])}" if self._models else ""
            return EndpointError(
                f"{self.url} does not have the model {self._model!r} (status 404: {message}){available}"
            )
        return RequestRejected(f"status {status}: {message}")

    def _redact(self, message: str) -> str:
        """Remove the key from a message."""
        return message.replace(self._key, "***") if self._key else message

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this address; looked up once, not for every request."""
    parts = urlsplit(url)
    if parts.hostname in _LOOPBACK or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
