"""Synchronous and asynchronous clients of the reward service, with retries and a deadline.

A request that was not delivered or was rejected temporarily (no connection, 502, 503, 504) is retried with exponential
backoff and jitter until the deadline. Retrying is safe: the service records a rollout once. A permanent rejection (a
group that cannot be scored, a wrong token) raises at once.

The clients never make up a reward. If the service stays unavailable until the deadline, they raise `ServiceGone`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx
from pydantic import ValidationError

from memstore.errors import InputError, MemstoreError
from memstore.runtime.retry import RetryPolicy, retry_after_s
from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.service import wire

DEADLINE_S = 300.0
"""Default seconds after which a call that the service has not answered fails."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_CONNECT_S = 5.0
_POLL_S = 0.5
"""Longest pause between two questions whether a training has ended, in seconds."""
_RETRYABLE = frozenset({502, 503, 504})


class ServiceError(MemstoreError):
    """The reward service is unavailable or rejects this client."""


class ServiceGone(ServiceError):
    """The reward service did not respond before the deadline; it may be back later."""


class StillTraining(ServiceError):
    """The reward service has not finished a training before the deadline; it goes on."""


class _Unavailable(Exception):
    """The service rejected a request temporarily."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class _Service:
    """The service as both clients see it: address, credentials, retry policy, and how to read a response."""

    def __init__(self, endpoint: str, token: str | None, deadline_s: float) -> None:
        check_endpoint(endpoint)
        if token is not None:
            wire.check_token(token)
        if not deadline_s > 0:
            raise InputError(f"a deadline of {deadline_s:g} s leaves no time for a response; pass more than 0 s")
        self.endpoint = endpoint.rstrip("/")
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self.deadline_s = deadline_s
        self.retry = RetryPolicy(deadline_s=deadline_s, first_pause_s=_FIRST_PAUSE_S, longest_pause_s=_LONGEST_PAUSE_S)
        self.training = RetryPolicy(deadline_s=deadline_s, first_pause_s=_FIRST_PAUSE_S, longest_pause_s=_POLL_S)

    def timeout(self, started: float) -> httpx.Timeout:
        """Timeout of an attempt of a call that started at time.monotonic() `started`: the time left."""
        left = max(0.01, started + self.deadline_s - time.monotonic())
        return httpx.Timeout(left, connect=min(_CONNECT_S, left))

    def content(self, response: httpx.Response) -> bytes:
        """Return the body of a success.

        Raises:
            _Unavailable: the failure is temporary.
            InputError, ServiceError: the failure is permanent.
        """
        status = response.status_code
        if status in (200, 202):
            return response.content
        message = _message(response)
        if status in _RETRYABLE:
            raise _Unavailable(
                message, retry_after_s(response.headers.get("retry-after"), response.headers.get("date"))
            )
        if status == 409:
            raise ServiceError(f"the reward service at {self.endpoint} did not begin: {message}")
        if status in (401, 403, 421):
            raise ServiceError(f"the reward service at {self.endpoint} rejected this client: {message}")
        if status in (413, 422):
            raise InputError(f"the reward service at {self.endpoint} rejected the request: {message}")
        raise ServiceError(f"the reward service at {self.endpoint} failed with status {status}: {message}")

    def trained(self, begun: Mapping[str, Any], info: Mapping[str, Any]) -> str:
        """The model of a training that `begun` describes.

        Raises:
            StillTraining: it runs.
            ServiceError: it failed, or the service was started again meanwhile.
        """
        known = [info.get("retraining", {}), *info.get("retrainings", [])]
        now = next((one for one in known if one.get("id") == begun["id"]), None)
        if now is None:
            raise ServiceError(f"the reward service at {self.endpoint} was started again during a training; repeat it")
        if now["error"] is not None:
            raise ServiceError(f"the reward service at {self.endpoint} could not train its model: {now['error']}")
        if now["model"] is None:
            raise StillTraining(
                f"the reward service at {self.endpoint} still trains its model after {self.deadline_s:g} s and goes "
                "on; see GET /v1/info, or raise the deadline"
            )
        return str(now["model"])

    def gone(self, error: httpx.TransportError | _Unavailable) -> ServiceGone:
        """The error to raise at the deadline."""
        reason = str(error) if isinstance(error, _Unavailable) else _reason(error)
        return ServiceGone(
            f"the reward service at {self.endpoint} did not answer within {self.deadline_s:g} s ({reason}); "
            "check that `memstore serve` is running there, or raise the deadline"
        )


def _is_temporary(error: Exception) -> bool:
    return isinstance(error, httpx.TransportError | _Unavailable)


def _hint_s(error: Exception) -> float | None:
    return error.retry_after_s if isinstance(error, _Unavailable) else None


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
        self._service = _Service(endpoint, token, deadline_s)
        self._http = httpx.Client(headers=self._service.headers)

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
        return _rewards(self._service.endpoint, self._request("POST", "/v1/score", body))

    def info(self) -> dict[str, Any]:
        """Return the response of `/v1/info`."""
        return _info(self._service.endpoint, self._request("GET", "/v1/info", None))

    def retrain(self) -> str:
        """Train the service's reward model again on what is recorded, and wait for it; return the new model's id.

        Raises:
            InputError: the service uses no reward model.
            StillTraining: it takes longer than the deadline; the service goes on with it.
            ServiceError: one is being trained already, or the training failed.
        """
        begun = _info(self._service.endpoint, self._request("POST", "/v1/retrain", None))
        return self._service.training.call(
            lambda: self._service.trained(begun, self.info()), retryable=lambda error: isinstance(error, StillTraining)
        )

    def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        url, started = self._service.endpoint + path, time.monotonic()

        def attempt() -> bytes:
            response = self._http.request(method, url, content=body, timeout=self._service.timeout(started))
            return self._service.content(response)

        try:
            return self._service.retry.call(attempt, retryable=_is_temporary, hint_s=_hint_s)
        except (httpx.TransportError, _Unavailable) as error:
            raise self._service.gone(error) from error

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
        self._service = _Service(endpoint, token, deadline_s)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(headers=self._service.headers, limits=limits)
        self._slots = asyncio.Semaphore(connections)

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Return the rewards of one group's rollouts, in order; see `score_groups`."""
        return (await self.score_groups([group], record=record))[0]

    async def score_groups(self, groups: Sequence[Group], *, record: bool = True) -> list[list[Reward]]:
        """See `RewardClient.score_groups`."""
        body = _request_body(groups, record)
        return _rewards(self._service.endpoint, await self._request("POST", "/v1/score", body))

    async def info(self) -> dict[str, Any]:
        """Return the response of `/v1/info`."""
        return _info(self._service.endpoint, await self._request("GET", "/v1/info", None))

    async def retrain(self) -> str:
        """See `RewardClient.retrain`."""
        begun = _info(self._service.endpoint, await self._request("POST", "/v1/retrain", None))

        async def trained() -> str:
            return self._service.trained(begun, await self.info())

        return await self._service.training.call_async(
            trained, retryable=lambda error: isinstance(error, StillTraining)
        )

    async def _request(self, method: str, path: str, body: bytes | None) -> bytes:
        url, started = self._service.endpoint + path, time.monotonic()

        async def attempt() -> bytes:
            async with self._slots:
                response = await self._http.request(method, url, content=body, timeout=self._service.timeout(started))
            return self._service.content(response)

        try:
            return await self._service.retry.call_async(attempt, retryable=_is_temporary, hint_s=_hint_s)
        except (httpx.TransportError, _Unavailable) as error:
            raise self._service.gone(error) from error

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
