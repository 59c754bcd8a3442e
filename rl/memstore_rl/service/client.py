"""Synchronous and asynchronous clients of the reward service, with retries and a deadline.

A request that was not delivered or was rejected temporarily (no connection, 502, 503, 504) is retried with exponential
backoff and jitter until the deadline. Retrying is safe: the service records a rollout once. A permanent rejection (a
group that cannot be scored, a wrong token) raises at once.

The clients never make up a reward. If the service stays unavailable until the deadline, they raise `ServiceGone`.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from typing import Any, Self

import httpx
from pydantic import ValidationError

from memstore.errors import InputError, MemstoreError
from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.service import wire

DEADLINE_S = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_CONNECT_S = 5.0
_RETRYABLE = frozenset({502, 503, 504})


class ServiceError(MemstoreError):
    """The reward service is unavailable or rejects this client."""


class ServiceGone(ServiceError):
    """The reward service did not respond before the deadline; it may be back later."""


class _Call:
    """State of one call across its attempts: deadline, backoff, and how to treat each response."""

    def __init__(self, endpoint: str, deadline_s: float) -> None:
        self._endpoint = endpoint
        self._deadline_s = deadline_s
        self._until = time.monotonic() + deadline_s
        self._pause_s = _FIRST_PAUSE_S

    @property
    def timeout(self) -> httpx.Timeout:
        """Timeout of the next attempt: the time left until the deadline."""
        left = max(0.01, self._until - time.monotonic())
        return httpx.Timeout(left, connect=min(_CONNECT_S, left))

    def outcome(self, response: httpx.Response) -> tuple[bytes | None, float]:
        """Return the body of a success, or None and the seconds to wait before the next attempt.

        Raises:
            InputError, ServiceError: the failure is permanent.
        """
        if response.status_code == 200:
            return response.content, 0.0
        message = _message(response)
        if response.status_code in _RETRYABLE:
            return None, self.pause(message, response.headers.get("retry-after"))
        if response.status_code in (401, 403):
            raise ServiceError(f"the reward service at {self._endpoint} rejected this client: {message}")
        if response.status_code in (413, 422):
            raise InputError(f"the reward service at {self._endpoint} rejected the request: {message}")
        raise ServiceError(
            f"the reward service at {self._endpoint} failed with status {response.status_code}: {message}"
        )

    def pause(self, reason: str, hint: str | None = None) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            ServiceGone: the next attempt would start after the deadline.
        """
        wait = self._pause_s * random.uniform(0.5, 1.0)
        if hint is not None and hint.replace(".", "", 1).isdigit():
            wait = max(wait, float(hint))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if time.monotonic() + wait >= self._until:
            raise ServiceGone(
                f"the reward service at {self._endpoint} did not answer within {self._deadline_s:g} s ({reason}); "
                "check that `memstore serve` is running there, or raise the deadline"
            )
        return wait


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase or "no reason given"


def check_endpoint(endpoint: str) -> None:
    """Check that `endpoint` is an HTTP address.

    Raises:
        InputError: it is not.
    """
    try:
        url = httpx.URL(endpoint)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"{endpoint!r} is not an address of a reward service; use one like http://127.0.0.1:8731")


class _Settings:
    def __init__(self, endpoint: str, token: str | None, deadline_s: float) -> None:
        check_endpoint(endpoint)
        if token is not None:
            wire.check_token(token)
        if not deadline_s > 0:
            raise InputError(f"a deadline of {deadline_s:g} s leaves no time for a response; pass more than 0 s")
        self.endpoint = endpoint.rstrip("/")
        self.deadline_s = deadline_s
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}


class RewardClient:
    """Client of a reward service. Thread-safe."""

    def __init__(self, endpoint: str, *, token: str | None = None, deadline_s: float = DEADLINE_S) -> None:
        """Create a client; nothing is sent yet.

        Args:
            endpoint: address of the service, such as `http://127.0.0.1:8731`.
            token: bearer token of the service.
            deadline_s: maximum seconds for one call, including retries.

        Raises:
            InputError: the address, token or deadline is invalid.
        """
        self._settings = _Settings(endpoint, token, deadline_s)
        self._http = httpx.Client(headers=self._settings.headers)

    def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Return the rewards of one group's rollouts, in order; see `score_groups`."""
        return self.score_groups([group], record=record)[0]

    def score_groups(self, groups: Sequence[Group], *, record: bool = True) -> list[list[Reward]]:
        """Return the rewards of each group's rollouts, in order.

        Args:
            record: whether the service writes the rollouts to its memory.

        Raises:
            InputError: the service cannot score these groups.
            ServiceGone: the service did not respond before the deadline.
            ServiceError: the service rejected this client or failed.
        """
        body = _request_body(groups, record)
        return _rewards(self._settings.endpoint, self._request("POST", "/v1/score", body))

    def info(self) -> dict[str, Any]:
        """Return the response of `/v1/info`."""
        return _info(self._settings.endpoint, self._request("GET", "/v1/info", None))

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        call = _Call(self._settings.endpoint, self._settings.deadline_s)
        while True:
            try:
                response = self._http.request(
                    method, self._settings.endpoint + path, content=body, timeout=call.timeout
                )
                content, wait = call.outcome(response)
            except httpx.TransportError as error:
                content, wait = None, call.pause(_reason(error))
            if content is not None:
                return content
            time.sleep(wait)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncRewardClient:
    """Asynchronous client of a reward service, for one event loop."""

    def __init__(
        self, endpoint: str, *, token: str | None = None, deadline_s: float = DEADLINE_S, connections: int = 64
    ) -> None:
        """Create a client; nothing is sent yet. See `RewardClient`.

        Args:
            connections: maximum number of concurrent requests; further calls wait.
        """
        self._settings = _Settings(endpoint, token, deadline_s)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(headers=self._settings.headers, limits=limits)
        self._slots = asyncio.Semaphore(connections)

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Return the rewards of one group's rollouts, in order; see `score_groups`."""
        return (await self.score_groups([group], record=record))[0]

    async def score_groups(self, groups: Sequence[Group], *, record: bool = True) -> list[list[Reward]]:
        """See `RewardClient.score_groups`."""
        body = _request_body(groups, record)
        return _rewards(self._settings.endpoint, await self._request("POST", "/v1/score", body))

    async def info(self) -> dict[str, Any]:
        """Return the response of `/v1/info`."""
        return _info(self._settings.endpoint, await self._request("GET", "/v1/info", None))

    async def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        call = _Call(self._settings.endpoint, self._settings.deadline_s)
        while True:
            try:
                async with self._slots:
                    response = await self._http.request(
                        method, self._settings.endpoint + path, content=body, timeout=call.timeout
                    )
                content, wait = call.outcome(response)
            except httpx.TransportError as error:
                content, wait = None, call.pause(_reason(error))
            if content is not None:
                return content
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


def _request_body(groups: Sequence[Group], record: bool) -> bytes:
    try:
        return wire.request_json(groups, record=record)
    except ValidationError as error:
        raise InputError(f"these groups cannot be sent: {wire.sentence(error)}") from error


def _rewards(endpoint: str, content: bytes) -> list[list[Reward]]:
    try:
        return [list(rewards) for rewards in wire.from_json(content).rewards]
    except ValueError as error:
        raise ServiceError(
            f"the server at {endpoint} is not a reward service of this version; use one version for client and service"
        ) from error


def _info(endpoint: str, content: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise ServiceError(f"the server at {endpoint} is not a reward service") from error


def _reason(error: httpx.TransportError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
