"""A server of the pages alone: over an open memory that no reward service serves, or over a snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from memstore_rl.inspector.app import make_pages
from memstore_rl.inspector.label_queue import QueueEntry
from memstore_rl.inspector.site import PREFIX
from memstore_rl.inspector.source import Source
from memstore_rl.service.serve import DEFAULT_HOST, check_address, listen, run_server

DEFAULT_PORT = 8732


@dataclass(frozen=True)
class InspectOptions:
    """Where the pages are served."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """0: any free port."""
    token: SecretStr | None = None
    """What a person logs in with; required unless the host is loopback."""
    queue: Sequence[QueueEntry] = ()
    """The queries to label."""
    rescore: bool = True
    """After each verdict, score the rollouts near it again."""


def inspect(source: Source, options: InspectOptions, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve the pages of an open memory or a snapshot until SIGTERM or SIGINT.

    Args:
        on_ready: called with the address of the pages once the server listens.

    Raises:
        InputError: the address is not loopback and there is no token, or the address cannot be bound.
    """
    check_address(options.host, options.token)
    with listen(options.host, options.port) as listener:
        app = inspector_app(source, token=options.token, queue=options.queue, rescore=options.rescore)
        run_server(app, listener, lambda address: on_ready(f"{address}{PREFIX}/") if on_ready else None)


def inspector_app(
    source: Source, *, token: SecretStr | None = None, queue: Sequence[QueueEntry] = (), rescore: bool = False
) -> Starlette:
    """The application of a server that has nothing but the pages."""
    pages = make_pages(source, token=token, queue=queue, rescore=rescore)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        pages.state.site.close()

    async def begin(_: Request) -> Response:
        return RedirectResponse(f"{PREFIX}/", 303)

    return Starlette(routes=[Route("/", begin), Route(PREFIX, begin), Mount(PREFIX, pages)], lifespan=lifespan)
