"""The HTTP API of the service: routes, authorization, limits, and errors as one sentence.

    POST /v1/score       rewards of groups                        413, 415, 422, 503 (with Retry-After)
    POST /v1/retrain     train the reward model again     202 and its id, 409 while one is trained, 422 without a model
    GET  /v1/info        memory, model, mode, version, the latest trainings
    GET  /health/live    the process is running
    GET  /health/ready   the service accepts requests, or 503
    GET  /metrics        Prometheus

If a token is set, every route except the health routes requires it (`Authorization: Bearer TOKEN`; 401). Without a
token the service is for this machine only, and a web page must not reach it through a browser: the Host must be a
loopback name (421), and so must an Origin (403).

The pages of the inspector are mounted under `/inspect` and have a login of their own.

Every error is JSON with one sentence: {"error": "..."}.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

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
from memstore_rl.service.retraining import RetrainingRuns
from memstore_rl.service.service import RewardService

logger = logging.getLogger(__name__)

OPEN_ROUTES = ("/health/live", "/health/ready")


def make_app(
    service: RewardService,
    *,
    token: SecretStr | None = None,
    info: Callable[[], Mapping[str, Any]] = dict,
    retrain: Callable[[], Mapping[str, Any]] | None = None,
    on_stop: Callable[[], None] | None = None,
    pages: Mapping[str, ASGIApp] | None = None,
) -> FastAPI:
    """Create the FastAPI application of a service.

    Args:
        info: returns the response of `/v1/info`.
        retrain: begins to train the reward model again and returns the response of `/v1/retrain`, or raises
            RetrainingRuns or InputError; None: the service cannot.
        on_stop: called at shutdown, after all requests have been answered.
        pages: applications to mount by path, which check themselves who may see them.
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

    mounted = dict(pages or {})
    app.add_middleware(_Guard, service=service, token=token, pages=tuple(f"{path}/" for path in mounted))
    _add_routes(app, service, info, retrain)
    for path, application in mounted.items():
        app.mount(path, application)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class _Guard:
    """Checks who may send a request, turns unexpected exceptions into an error, and counts responses."""

    def __init__(self, app: ASGIApp, service: RewardService, token: SecretStr | None, pages: tuple[str, ...]) -> None:
        self._app, self._metrics, self._token, self._pages = app, service.metrics, token, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await (self._rejection(Request(scope)) or self._app)(scope, receive, send_and_note_status)
        except Exception:
            # A bug: the client gets a sentence, the log gets the traceback.
            if status:
                raise
            logger.exception("a request failed because of a bug in the service")
            error = _error(500, "the service failed because of a bug; its log has the details")
            await error(scope, receive, send_and_note_status)
        finally:
            self._metrics.requests.labels(str(status or 500)).inc()
            if scope["path"] == "/v1/score":
                self._metrics.seconds.observe(time.perf_counter() - started)

    def _rejection(self, request: Request) -> Response | None:
        """Return the response to a request that is not allowed."""
        if self._token is None:
            refused = loopback_refusal(request)
            return _error(*refused) if refused is not None else None
        path = request.scope["path"]
        if path in OPEN_ROUTES or path.startswith(self._pages) or _is_authorized(request, self._token):
            return None
        response = _error(401, "the token is missing or wrong; send it as: Authorization: Bearer TOKEN")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def loopback_refusal(request: Request) -> tuple[int, str] | None:
    """Status and sentence for what a web page in a browser on this machine could send; None for other requests."""
    if not all(is_loopback_host(_host_name(host)) for host in request.headers.getlist("host")):
        return 421, "without a token the service answers to loopback names only; use http://127.0.0.1, or set a token"
    if not all(is_loopback_host(_host_name(origin_host(given))) for given in request.headers.getlist("origin")):
        return 403, "without a token the service takes no requests of web pages from elsewhere; set a token"
    return None


def origin_host(origin: str) -> str:
    """Host and port of an Origin header; empty, which is no host, if it is invalid."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def is_loopback_host(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _host_name(authority: str) -> str:
    """Return the host of `host:port`, without the brackets of an IPv6 address."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _add_routes(
    app: FastAPI,
    service: RewardService,
    info: Callable[[], Mapping[str, Any]],
    retrain: Callable[[], Mapping[str, Any]] | None,
) -> None:
    @app.post("/v1/score")
    async def score(request: Request) -> Response:
        return await _score(service, request)

    @app.get("/v1/info")
    async def get_info() -> dict[str, Any]:
        return dict(info())

    @app.post("/v1/retrain")
    async def start_retraining() -> Response:
        try:
            if retrain is None:
                raise InputError("this service does not train its reward model; use memstore serve")
            return JSONResponse(dict(retrain()), 202)
        except RetrainingRuns as error:
            return _error(409, str(error))
        except InputError as error:
            return _error(422, str(error))

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
            for status, meaning in {
                401: "no token",
                413: "too long",
                415: "not JSON",
                422: "cannot be scored",
                503: "busy",
            }.items()
        }
        app.openapi_schema = document
    return app.openapi_schema


async def _score(service: RewardService, request: Request) -> Response:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _error(415, "send the request as JSON, with the header Content-Type: application/json")
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
        response = await service.score(score_request, request.client.host if request.client else "")
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
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    matches = hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode())
    return matches and scheme.lower() == "bearer"


def _error(status: int, message: str, *, retry_after_s: float | None = None) -> JSONResponse:
    response = JSONResponse({"error": message.encode("utf-8", "backslashreplace").decode()}, status)
    if retry_after_s is not None:
        response.headers["Retry-After"] = f"{retry_after_s:.3f}"
    return response


def _error_handler(status: int, message: str) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        return _error(status, message)

    return handle
