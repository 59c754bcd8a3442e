"""The HTTP face of the service: routes, authorisation, limits, errors as one sentence.

    POST /v1/score       rewards of groups                        401, 413, 422, 503 (with Retry-After)
    GET  /v1/info        memory, model, mode, version
    GET  /health/live    the process answers
    GET  /health/ready   it takes requests, or 503
    GET  /metrics        Prometheus

With a token every route but the two of health asks for it (`Authorization: Bearer TOKEN`).
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
from memstore_rl.service.batching import Full, Stopping
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
    """The application of a service.

    Args:
        info: what `/v1/info` answers.
        on_stop: called when all requests are answered and the application goes down.
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
    app.add_exception_handler(404, _plain(404, "there is no such route; rewards are asked for with POST /v1/score"))
    app.add_exception_handler(405, _plain(405, "this route takes another method; see GET /openapi.json"))

    app.add_middleware(_Guard, service=service, token=token)
    _add_routes(app, service, dict(info or {}))
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


class _Guard:
    """Asks for the token, and counts what is answered; around every route."""

    def __init__(self, app: ASGIApp, service: RewardService, token: SecretStr | None) -> None:
        self._app, self._metrics, self._token = app, service.metrics, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await (self._app if self._lets_in(scope) else self._refusal())(scope, receive, told)
        finally:
            self._metrics.requests.labels(str(status)).inc()
            if scope["path"] == "/v1/score":
                self._metrics.seconds.observe(time.perf_counter() - started)

    def _lets_in(self, scope: Scope) -> bool:
        return self._token is None or scope["path"] in OPEN_ROUTES or _authorised(Request(scope), self._token)

    def _refusal(self) -> Response:
        response = _error(401, "the token is missing or wrong; send it as: Authorization: Bearer TOKEN")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def _add_routes(app: FastAPI, service: RewardService, info: dict[str, Any]) -> None:
    @app.post("/v1/score")
    async def score(request: Request) -> Response:
        return await _scored(service, request)

    @app.get("/v1/info")
    async def told() -> dict[str, Any]:
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


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the body that `score` reads by itself."""
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


async def _scored(service: RewardService, request: Request) -> Response:
    try:
        content = await _body(request)
    except ClientDisconnect:
        return _error(400, "the connection ended before the request did")
    if content is None:
        return _error(413, f"a request holds at most {wire.MAX_BODY // 2**20} MiB; send the groups in several")
    try:
        asked = wire.ScoreRequest.model_validate_json(content)
    except ValidationError as error:
        return _error(422, wire.sentence(error))
    try:
        response = await service.score(asked)
    except Full as error:
        return _error(503, str(error), retry_after_s=error.retry_after_s)
    except Stopping as error:
        return _error(503, str(error), retry_after_s=1.0)
    except InputError as error:
        return _error(422, str(error))
    except MemstoreError as error:
        logger.error("a request could not be scored: %s", error)
        return _error(500, str(error))
    return Response(wire.to_json(response), media_type="application/json")


async def _body(request: Request) -> bytes | None:
    """The body; None when it is longer than one may be, which is noticed while it is read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > wire.MAX_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _authorised(request: Request, token: SecretStr) -> bool:
    given = request.headers.get("authorization", "")
    wanted = f"Bearer {token.get_secret_value()}"
    return hmac.compare_digest(given.encode(), wanted.encode())


def _error(status: int, message: str, *, retry_after_s: float | None = None) -> JSONResponse:
    response = JSONResponse({"error": message.encode("utf-8", "backslashreplace").decode()}, status)
    if retry_after_s is not None:
        response.headers["Retry-After"] = f"{retry_after_s:.3f}"
    return response


def _plain(status: int, message: str) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        return _error(status, message)

    return answer
