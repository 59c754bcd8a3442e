"""Clients of the reward service, sync and async: the same two questions, retries, and a deadline.

A request that could not be delivered or was refused as too early (no connection, 502, 503, 504) is sent again, with
growing and jittered pauses, until the deadline. Sending twice is safe: the service remembers a rollout once. What the
service refuses for good (a group that cannot be scored, a wrong token) is an error at once.

Nothing here makes up a reward. A service that stays away is a `ServiceError`, after as long as the deadline says.
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
_AGAIN = frozenset({502, 503, 504})


class ServiceError(MemstoreError):
    """The reward service could not be had before the deadline, or does not take this client."""


class ServiceGone(ServiceError):
    """It could not be had before the deadline; it may be back later."""


class _Call:
    """One question: what to send, and what to make of each try."""

    def __init__(self, endpoint: str, deadline_s: float) -> None:
        self._endpoint = endpoint
        self._deadline_s = deadline_s
        self._until = time.monotonic() + deadline_s
        self._pause_s = _FIRST_PAUSE_S

    @property
    def timeout(self) -> httpx.Timeout:
        """For the next try: what is left."""
        left = max(0.01, self._until - time.monotonic())
        return httpx.Timeout(left, connect=min(_CONNECT_S, left))

    def outcome(self, response: httpx.Response) -> tuple[bytes | None, float]:
        """The body of a good answer, or how long to wait before the next try.

        Raises:
            InputError, ServiceError: trying again does not help.
        """
        if response.status_code == 200:
            return response.content, 0.0
        message = _message(response)
        if response.status_code in _AGAIN:
            return None, self.pause(message, response.headers.get("retry-after"))
        if response.status_code in (401, 403):
            raise ServiceError(f"the reward service at {self._endpoint} refused this client: {message}")
        if response.status_code in (413, 422):
            raise InputError(f"the reward service at {self._endpoint} refused the request: {message}")
        raise ServiceError(
            f"the reward service at {self._endpoint} failed with status {response.status_code}: {message}"
        )

    def pause(self, reason: str, hint: str | None = None) -> float:
        """Seconds until the next try.

        Raises:
            ServiceGone: that would be after the deadline.
        """
        wait = self._pause_s * random.uniform(0.5, 1.0)
        if hint is not None and hint.replace(".", "", 1).isdigit():
            wait = max(wait, float(hint))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if time.monotonic() + wait >= self._until:
            raise ServiceGone(
                f"the reward service at {self._endpoint} did not answer within {self._deadline_s:g} s ({reason}); see "
                "that `memstore serve` runs there, or allow more time"
            )
        return wait


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase or "no reason given"


def check_endpoint(endpoint: str) -> None:
    """Refuse what is no address.

    Raises:
        InputError: so it is.
    """
    try:
        url = httpx.URL(endpoint)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"{endpoint!r} is no address of a reward service; it looks like http://127.0.0.1:8731")


class _Settings:
    def __init__(self, endpoint: str, token: str | None, deadline_s: float) -> None:
        check_endpoint(endpoint)
        if token is not None:
            wire.check_token(token)
        if not deadline_s > 0:
            raise InputError(f"a deadline of {deadline_s:g} s leaves no time for an answer; allow more than 0 s")
        self.endpoint = endpoint.rstrip("/")
        self.deadline_s = deadline_s
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}


class RewardClient:
    """Asks a reward service. Its methods may be called from several threads."""

    def __init__(self, endpoint: str, *, token: str | None = None, deadline_s: float = DEADLINE_S) -> None:
        """Nothing is sent yet.

        Args:
            endpoint: such as `http://127.0.0.1:8731`.
            deadline_s: the longest that one question may take, retries and all.

        Raises:
            InputError: an address, a token or a deadline that cannot be used.
        """
        self._settings = _Settings(endpoint, token, deadline_s)
        self._http = httpx.Client(headers=self._settings.headers)

    def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Rewards of one group's rollouts, in their order; see `score_groups`."""
        return self.score_groups([group], record=record)[0]

    def score_groups(self, groups: Sequence[Group], *, record: bool = True) -> list[list[Reward]]:
        """Rewards of each group's rollouts.

        Args:
            record: have the service write them to its memory.

        Raises:
            InputError: the service cannot score these.
            ServiceError: it did not answer before the deadline, or refused this client.
        """
        body = _document(groups, record)
        return _rewards(self._settings.endpoint, self._ask("POST", "/v1/score", body))

    def info(self) -> dict[str, Any]:
        """What the service says of itself."""
        return _info(self._settings.endpoint, self._ask("GET", "/v1/info", None))

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
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
    """Asks a reward service, from one event loop."""

    def __init__(
        self, endpoint: str, *, token: str | None = None, deadline_s: float = DEADLINE_S, connections: int = 64
    ) -> None:
        """Nothing is sent yet; see `RewardClient`.

        Args:
            connections: questions that are under way at once; more wait here.
        """
        self._settings = _Settings(endpoint, token, deadline_s)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(headers=self._settings.headers, limits=limits)
        self._turn = asyncio.Semaphore(connections)

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Rewards of one group's rollouts, in their order; see `score_groups`."""
        return (await self.score_groups([group], record=record))[0]

    async def score_groups(self, groups: Sequence[Group], *, record: bool = True) -> list[list[Reward]]:
        """See `RewardClient.score_groups`."""
        body = _document(groups, record)
        return _rewards(self._settings.endpoint, await self._ask("POST", "/v1/score", body))

    async def info(self) -> dict[str, Any]:
        """What the service says of itself."""
        return _info(self._settings.endpoint, await self._ask("GET", "/v1/info", None))

    async def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        call = _Call(self._settings.endpoint, self._settings.deadline_s)
        while True:
            try:
                async with self._turn:
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


def _document(groups: Sequence[Group], record: bool) -> bytes:
    try:
        return wire.request_json(groups, record=record)
    except ValidationError as error:
        raise InputError(f"these groups cannot be sent to be scored: {wire.sentence(error)}") from error


def _rewards(endpoint: str, content: bytes) -> list[list[Reward]]:
    try:
        return [list(rewards) for rewards in wire.from_json(content).rewards]
    except ValueError as error:
        raise ServiceError(
            f"what answers at {endpoint} is no reward service of this version; see that client and service are of one"
        ) from error


def _info(endpoint: str, content: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as error:
        raise ServiceError(f"what answers at {endpoint} is no reward service") from error


def _reason(error: httpx.TransportError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
