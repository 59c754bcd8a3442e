"""What the routes of all pages share: source, threads, templates, forms, and errors as pages with one sentence."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from memstore.errors import InputError, LockedError, MemstoreError, QueryTimeout, ReadOnlyError
from memstore_rl.inspector.charts import bar
from memstore_rl.inspector.desk import desk_of
from memstore_rl.inspector.ending import ending
from memstore_rl.inspector.explaining import Explainer, TooMany
from memstore_rl.inspector.forms import FormTooLong, read_form
from memstore_rl.inspector.jobs import Jobs
from memstore_rl.inspector.label_queue import QueueEntry
from memstore_rl.inspector.recurring import Recurring
from memstore_rl.inspector.rescoring import Rescorer
from memstore_rl.inspector.security import Login
from memstore_rl.inspector.source import MemorySource, Source
from memstore_rl.inspector.texts import one_line, pieces
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.overview import Overview, overview
from memstore_rl.service.live import LiveService

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

PREFIX = "/inspect"
"""Path of the pages on a server."""
READERS, SEARCHERS = 2, 2
"""Threads for pages, and for searches and Cypher, which wait for another process."""
MAX_FORM = 2**20
"""Bytes of a form at most."""
MAX_FIELDS = 100
"""Fields of a form at most."""
BUG = "the page cannot be shown because of a bug; the log of the service has the details"
_STATUS: tuple[tuple[type[MemstoreError], int], ...] = (
    (NotThere, 404),
    (ReadOnlyError, 403),
    (FormTooLong, 413),
    (InputError, 400),
    (QueryTimeout, 503),
    (LockedError, 503),
    (TooMany, 503),
)


class NavItem(NamedTuple):
    """A link at the top of every page."""

    path: str
    title: str


class Site:
    """The pages over one source. Close it after the last request."""

    def __init__(
        self,
        source: Source,
        login: Login,
        navigation: Sequence[NavItem],
        queue: Sequence[QueueEntry] = (),
        live: LiveService | None = None,
        *,
        rescore: bool = False,
    ) -> None:
        self.source, self.login, self.live = source, login, live
        self.read_only = source.read_only
        memory = source.memory if isinstance(source, MemorySource) and not source.read_only else None
        self.jobs = Jobs()
        self.explainer = None if memory is None else Explainer(memory, self.jobs)
        self.desk = desk_of(source, queue, Rescorer(memory, self.jobs) if memory is not None and rescore else None)
        self._recurring: list[Recurring[Any]] = []
        self._turn = threading.Lock()  # they share the processor with the pages, so one is computed at a time
        self.overview: Recurring[Overview] = self.recurring(partial(overview, source), "overview")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="memstore-page")
        self._searchers = ThreadPoolExecutor(SEARCHERS, thread_name_prefix="memstore-search")
        self._templates = templates()
        self._templates.globals |= {"navigation": navigation, "site": self}

    def recurring(self, compute: Callable[[], Answer], name: str) -> Recurring[Answer]:
        """A value that covers the whole source; it is computed again only once something was written."""
        made: Recurring[Answer] = Recurring(compute, name, self.source.version, self._turn)
        self._recurring.append(made)
        return made

    def close(self) -> None:
        """End the threads. Requests in progress end with an error; work in the background is waited for."""
        with ending():
            self.jobs.close()
            if self.desk is not None:
                self.desk.close()
            for value in self._recurring:
                value.close()
        for threads in (self._readers, self._searchers):
            threads.shutdown(wait=False, cancel_futures=True)

    def route(
        self, path: str, handle: Callable[[Request], Awaitable[Response]], methods: Sequence[str] = ("GET",)
    ) -> Route:
        """A route whose errors become pages."""

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except MemstoreError as error:
                status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
                return self.error(request, status, str(error))
            except Exception:
                logger.exception("a page failed because of a bug")
                return self.error(request, 500, BUG)

        return Route(path, answer, methods=list(methods))

    async def page(
        self, request: Request, template: str, view: Callable[[], Mapping[str, object]], *, slow: bool = False
    ) -> Response:
        """A page: the view is read and its template rendered in a thread.

        Args:
            view: returns the variables of the template.
            slow: the view waits for a search or a query, so that it must not keep other pages waiting.
        """
        return await self.in_thread(lambda: self.render(request, template, view()), slow=slow)

    async def in_thread(self, work: Callable[[], Answer], *, slow: bool = False) -> Answer:
        """Run work that reads the source off the event loop."""
        threads: Executor = self._searchers if slow else self._readers
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def render(self, request: Request, template: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
        """Fill a template."""
        session = getattr(request.state, "session", None)
        root = str(request.scope.get("root_path", ""))
        common = {
            "layout": "base.html",
            "in_file": False,
            "root": root,
            "path": request.url.path.removeprefix(root),
            "csrf": self.login.csrf_of(session) if session else "",
            "signed_in": self.login.required and session is not None,
            "now": datetime.now().astimezone(),
        }
        return HTMLResponse(self._templates.get_template(template).render({**common, **values}), status)

    def error(self, request: Request, status: int, sentence: str) -> Response:
        """A page with one sentence."""
        return self.render(request, "error.html", {"status": status, "sentence": sentence}, status)

    async def form(self, request: Request) -> FormData:
        """The form of a request that changes something.

        Raises:
            InputError: it cannot be read, is too long, or is not of this session.
            ReadOnlyError: the pages are read-only.
        """
        if self.read_only:
            raise ReadOnlyError("these pages are read-only; open them without --read-only, over a memory")
        form = await read_form(request, most_bytes=MAX_FORM, most_fields=MAX_FIELDS)
        self.login.check_form(request, form)
        return form


def templates() -> Environment:
    """The templates, which escape all that they insert."""
    environment = Environment(
        loader=PackageLoader("memstore_rl.inspector"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    environment.globals |= {"bar": bar}
    return environment


def percent(value: float | None) -> str:
    """A share as a percentage; a dash where it is unknown."""
    return "–" if value is None else f"{100 * value:.0f} %"


def probability(value: float | None) -> str:
    """A probability or reward with two decimals; a dash where it is unknown."""
    return "–" if value is None else f"{value:.2f}"


def number(value: int) -> str:
    """A whole number with separators."""
    return f"{value:,}"


def moment(value: datetime | None) -> str:
    """A time, in UTC."""
    return "–" if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def sentence_case(text: str) -> str:
    """An error as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def verdict(value: float | None) -> Markup:
    """A verdict as a chip: right, wrong, or a number between; nothing where it is unknown."""
    if value is None:
        return Markup("")
    kind, text = ("right", "right") if value >= 1 else ("wrong", "wrong") if value <= 0 else ("partly", f"{value:.2f}")
    return Markup('<span class="chip {}">{}</span>').format(kind, text)


FILTERS = {
    "percent": percent,
    "probability": probability,
    "number": number,
    "moment": moment,
    "sentence": sentence_case,
    "verdict": verdict,
    "one_line": one_line,
    "pieces": pieces,
}
