"""The HTTP protocol of the server with limits, and its errors as JSON.

    limit                        response
    connections                  503, and the connection is closed
    size of the headers          400
    seconds until the headers    408
    seconds without a byte       the connection is closed
    idle keep-alive seconds      the connection is closed

uvicorn's own limit of connections answers in plain text and logs a line for every rejected request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

_RESERVED_FILES = 256
"""File descriptors that connections leave to the journal, the memory and libraries."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of connections; times in seconds."""

    connections: int = 1024
    header_bytes: int = 32 * 2**10
    header_s: float = 10.0
    """Until the headers of a request are complete."""
    body_idle_s: float = 60.0
    """Without a byte of an incomplete body."""
    keep_alive_s: float = 15.0
    """Between two requests."""


def server_config(app: Any, limits: ConnectionLimits | None = None, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration of the service.

    Args:
        options: further options of `uvicorn.Config`.
    """
    chosen = limits or ConnectionLimits()
    most = min(chosen.connections, _available_files())

    class Protocol(_LimitedProtocol):
        limited = chosen
        max_connections = most

    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        h11_max_incomplete_event_size=chosen.header_bytes,
        timeout_keep_alive=max(1, round(chosen.keep_alive_s)),
        **options,
    )


def _available_files() -> int:
    """Raise the limit of open files as far as allowed; return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return 65_536 if soft == resource.RLIM_INFINITY else max(1, soft - min(_RESERVED_FILES, soft // 2))


class _LimitedProtocol(H11Protocol):
    """One connection; see the module's docstring."""

    limited: ConnectionLimits
    max_connections: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._waits_for_headers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            logger.warning("connections are rejected: %d are open, which is the limit", self.max_connections)
            self._reject(HTTPStatus.SERVICE_UNAVAILABLE, "the service has too many connections; retry in a second")
            return
        self._start_header_timer()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._set_timer()

    def send_400_response(self, msg: str) -> None:
        self._reject(
            HTTPStatus.BAD_REQUEST,
            f"this is not a valid HTTP request, or its headers exceed {self.limited.header_bytes:,} bytes",
        )

    def _set_timer(self) -> None:
        """Start, keep or stop the timer for what the connection waits for now."""
        if self.transport.is_closing():
            self._stop_timer()
        elif self.conn.their_state is h11.SEND_BODY:
            self._stop_timer()
            self._timer = self.loop.call_later(self.limited.body_idle_s, self.transport.close)
        elif self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            if not self._waits_for_headers:
                self._start_header_timer()
        elif not (self._waits_for_headers and self.conn.their_state is h11.IDLE):
            self._stop_timer()

    def _start_header_timer(self) -> None:
        self._stop_timer()
        self._waits_for_headers = True
        seconds = self.limited.header_s
        sentence = f"the headers of the request were not complete within {seconds:g} s"
        self._timer = self.loop.call_later(seconds, self._reject, HTTPStatus.REQUEST_TIMEOUT, sentence)

    def _stop_timer(self) -> None:
        self._waits_for_headers = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _reject(self, status: HTTPStatus, sentence: str) -> None:
        """Send an error and close the connection."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        body = json.dumps({"error": sentence}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(head.encode() + body)
        self.transport.close()
