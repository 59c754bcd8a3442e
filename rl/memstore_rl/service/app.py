"""The HTTP API of the service: routes, authorization, limits, and errors as one sentence.

    POST /v1/score       rewards of groups                        401, 413, 422, 503 (with Retry-After)
    GET  /v1/info        memory, model, mode, version
    GET  /health/live    the process is running
    GET  /health/ready   the service accepts requests, or 503
    GET  /metrics        Prometheus

If a token is set, every route except the health routes requires it (`Authorization: Bearer TOKEN`).
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic import SecretStr, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memstore.errors import InputError, MemstoreError
from memstore_rl.service import wire
from memstore_rl.service.batching import QueueFull, ServiceStopping
from memstore_rl.service.metrics import CONTENT_TYPE
from memstore_rl.service.service import RewardService

logger = logging.getLogger(__name__)

OPEN_ROUTES = ("/health/live", "/health/ready")


def make_app(
    service: RewardService,
    *,
    token: SecretStr | None = None,
    info: Mapping[str, Any] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> FastAPI:
    """Create the FastAPI application of a service.

    Args:
        info: response of `/v1/info`.
        on_stop: called at shutdown, after all requests have been answered.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()
        if on_stop is not None:
            on_stop()

    app = FastAPI(
        title="memstore reward service", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.add_exception_handler(404, _error_handler(404, "there is no such route; use POST /v1/score to get rewards"))
    app.add_exception_handler(
        405, _error_handler(405, "this route does not support this method; see GET /openapi.json")
    )

    app.add_middleware(_TokenMiddleware, service=service, token=token)
    _add_routes(app, service, dict(info or {}))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class _TokenMiddleware:
    """Checks the token of every request and counts responses."""

    def __init__(self, app: ASGIApp, service: RewardService, token: SecretStr | None) -> None:
        self._app, self._metrics, self._token = app, service.metrics, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await (self._app if self._is_allowed(scope) else self._unauthorized())(scope, receive, send_and_note_status)
        finally:
            self._metrics.requests.labels(str(status)).inc()
            if scope["path"] == "/v1/score":
                self._metrics.seconds.observe(time.perf_counter() - started)

    def _is_allowed(self, scope: Scope) -> bool:
        return self._token is None or scope["path"] in OPEN_ROUTES or _is_authorized(Request(scope), self._token)

    def _unauthorized(self) -> Response:
        response = _error(401, "the token is missing or wrong; send it as: Authorization: Bearer TOKEN")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def _add_routes(app: FastAPI, service: RewardService, info: dict[str, Any]) -> None:
    @app.post("/v1/score")
    async def score(request: Request) -> Response:
        return await _score(service, request)

    @app.get("/v1/info")
    async def get_info() -> dict[str, Any]:
        return info

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> Response:
        return JSONResponse({"status": "ready"}) if service.ready else _error(503, "the service is not ready")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, including the body that `score` parses without FastAPI."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schema = wire.ScoreRequest.model_json_schema(ref_template="#/components/schemas/{model}")
        document.setdefault("components", {}).setdefault("schemas", {}).update(schema.pop("$defs"))
        body = {"content": {"application/json": {"schema": schema}}, "required": True}
        operation = document["paths"]["/v1/score"]["post"]
        operation["requestBody"] = body
        operation["responses"] |= {
            str(status): {"description": meaning}
            for status, meaning in {401: "no token", 413: "too long", 422: "cannot be scored", 503: "busy"}.items()
        }
        app.openapi_schema = document
    return app.openapi_schema


async def _score(service: RewardService, request: Request) -> Response:
    try:
        content = await _body(request)
    except ClientDisconnect:
        return _error(400, "the connection closed before the request was complete")
    if content is None:
        return _error(
            413, f"a request holds at most {wire.MAX_BODY // 2**20} MiB; split the groups over several requests"
        )
    try:
        score_request = wire.ScoreRequest.model_validate_json(content)
    except ValidationError as error:
        return _error(422, wire.sentence(error))
    try:
        response = await service.score(score_request)
    except QueueFull as error:
        return _error(503, str(error), retry_after_s=error.retry_after_s)
    except ServiceStopping as error:
        return _error(503, str(error), retry_after_s=1.0)
    except InputError as error:
        return _error(422, str(error))
    except MemstoreError as error:
        logger.error("a request could not be scored: %s", error)
        return _error(500, str(error))
    return Response(wire.to_json(response), media_type="application/json")


async def _body(request: Request) -> bytes | None:
    """Read the body; None as soon as it exceeds the limit."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > wire.MAX_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _is_authorized(request: Request, token: SecretStr) -> bool:
    given = request.headers.get("authorization", "")
    expected = f"Bearer {token.get_secret_value()}"
    return hmac.compare_digest(given.encode(), expected.encode())


def _error(status: int, message: str, *, retry_after_s: float | None = None) -> JSONResponse:
    response = JSONResponse({"error": message.encode("utf-8", "backslashreplace").decode()}, status)
    if retry_after_s is not None:
        response.headers["Retry-After"] = f"{retry_after_s:.3f}"
    return response


def _error_handler(status: int, message: str) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        return _error(status, message)

    return handle
