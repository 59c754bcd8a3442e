"""The process of the reward service: it owns the memory, scores, records, and stops in good order.

On SIGTERM or Ctrl-C no more requests are taken, those under way are answered, and what is in the journal is written to
the memory for a while; what is left of it stays in the journal, and the next start writes it.

Products of matrices keep to one core here: theirs are small, and cores that wait for each other take the time of the
embedder, of the event loop, and of clients on the same machine.
"""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import uvicorn
from pydantic import SecretStr
from threadpoolctl import threadpool_limits

from memstore.errors import InputError, StoreError
from memstore.graph.lock import OwnerLock
from memstore.memory import Memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Mode
from memstore_rl.rewards.shaping import Shaping
from memstore_rl.service.app import make_app
from memstore_rl.service.journal import Journal
from memstore_rl.service.recorder import Pace, Recorder
from memstore_rl.service.service import MAX_BATCH_ROLLOUTS, MAX_WAITING_ROLLOUTS, RewardService
from memstore_rl.service.texts import TextVectors
from memstore_rl.service.wire import check_token
from memstore_rl.verifiers import Verifiers

logger = logging.getLogger(__name__)

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8731
FOLDER, JOURNAL = "service", "journal.sqlite"
_ANSWER_SECONDS = 30
_SWITCH_SECONDS = 0.001
"""How long the thread that scores may keep Python's lock from the event loop and the journal: they need it for moments,
and several times a request."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""


@dataclass(frozen=True)
class ServeOptions:
    """How a memory is served."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """0: any free one."""
    token: SecretStr | None = None
    """Needed where the host is not loopback."""
    mode: Mode = "memory"
    model: str | None = None
    """None: the memory's own choice, see `memstore_gnn.verbs.open_model`."""
    device: str | None = None
    expected: int | None = None
    """Rollouts of a full group."""
    shaping: Shaping = "probability"
    min_spread: float = 0.0
    """A group whose probabilities lie closer together gets one reward; see docs/rewards.md."""
    verifiers: Verifiers | None = None
    record: bool = True
    """Write what was scored to the memory."""
    pace: Pace = field(default_factory=Pace)
    max_batch: int = MAX_BATCH_ROLLOUTS
    max_waiting: int = MAX_WAITING_ROLLOUTS
    stop_seconds: float = 60.0
    """How long a stop may take to write the journal to the memory."""


def serve(memory: Memory, options: ServeOptions, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve an open memory until SIGTERM or SIGINT.

    Args:
        on_ready: told the service's address, when it listens.

    Raises:
        InputError: an address that is not loopback without a token, or one that cannot be listened on.
        LockedError: another service serves this memory from this machine.
        ModelError: no such reward model, or one that does not fit the memory.
    """
    check_address(options.host, options.token)
    with ExitStack() as held:
        held.enter_context(threadpool_limits(1, user_api="blas"))
        held.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_SECONDS)
        folder = memory.folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        held.callback(OwnerLock(folder).release)
        listener = held.enter_context(_listening(options.host, options.port))
        journal = held.enter_context(closing(Journal(folder / JOURNAL))) if options.record else None
        texts = TextVectors(memory.embedder, memory.cache)
        scorer = held.enter_context(_scorer(memory, options, texts))
        service = RewardService(scorer, journal, max_batch=options.max_batch, max_waiting=options.max_waiting)
        if scorer.model is not None and scorer.model.watch is not None:
            scorer.model.watch.on_window = service.metrics.on_votes
        recorder = None
        if journal is not None:
            recorder = _recorder(memory, journal, texts, scorer, service, options.pace)
            recorder.start()
        app = make_app(service, token=options.token, info=_info(memory, scorer, options))
        _run(app, listener, on_ready)
        if recorder is not None:
            left = recorder.stop(options.stop_seconds)
            logger.info("stopped", extra={"left_in_journal": left})


def _recorder(
    memory: Memory, journal: Journal, texts: TextVectors, scorer: GroupScorer, service: RewardService, pace: Pace
) -> Recorder:
    """What writes the journal to the memory, beside the scoring."""
    return Recorder(
        memory,
        journal,
        settle=texts.settle,
        refresh=scorer.refresh,
        pace=pace,
        on_recorded=service.metrics.recorded.inc,
        on_failure=service.metrics.record_failures.inc,
    )


def check_address(host: str, token: SecretStr | None) -> None:
    """Refuse to be reachable from elsewhere without a token.

    Raises:
        InputError: so it would be, or the token is one that no client can send.
    """
    if token is not None:
        check_token(token.get_secret_value())
    if token is None and not _is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines, so a token is needed; set MEMSTORE_SERVICE_TOKEN, or serve on "
            f"{DEFAULT_HOST}"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens; taken before anything slow is loaded, so that a port in use is told at once."""
    listener: socket.socket | None = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Named as TCP, for asyncio sends at once (TCP_NODELAY) only what says that it is: 40 ms an answer otherwise.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address[:2])
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        if listener is not None:
            listener.close()
        raise InputError(
            f"the service cannot listen on {host}:{port} ({error.strerror or error}); choose another --port"
        ) from error


def _scorer(memory: Memory, options: ServeOptions, texts: TextVectors) -> GroupScorer:
    return GroupScorer.open(
        memory,
        mode=options.mode,
        model=options.model,
        device=options.device,
        expected=options.expected,
        shaping=options.shaping,
        min_spread=options.min_spread,
        verifiers=options.verifiers,
        embed=texts.embed,
    )


def _info(memory: Memory, scorer: GroupScorer, options: ServeOptions) -> dict[str, Any]:
    return {
        "memstore": version("memstore"),
        "memory": str(memory.location),
        "namespace": memory.namespace,
        "mode": options.mode,
        "model": scorer.model.model.card.id if scorer.model else None,
        "shaping": options.shaping,
        "min_spread": options.min_spread,
        "expected": options.expected,
        "record": options.record,
    }


def _run(app: Any, listener: socket.socket, on_ready: Callable[[str], None] | None) -> None:
    """Answer requests until a signal says stop."""
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=_ANSWER_SECONDS
    )
    server = uvicorn.Server(config)
    # uvicorn raises a signal that stopped it once more when it is done; by then it has been obeyed.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if on_ready is not None:
            on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not server.started:
        raise StoreError("the service could not start; the log above says why")
