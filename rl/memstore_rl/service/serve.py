"""The server process of the reward service: scores, records, and shuts down gracefully.

On SIGTERM or Ctrl-C the service stops accepting requests, answers those in progress, and writes the journal to the
memory for a limited time. The next start writes what is left.

BLAS is limited to one core: the matrices are small, and waiting cores would take CPU time from the embedder, the event
loop and clients on the same machine.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits

from memstore.errors import InputError, StoreError
from memstore.graph.lock import OwnerLock
from memstore.memory import Memory
from memstore_rl.rewards.gauge import GaugeSettings
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Mode, Shaping
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.service.app import is_loopback_host, make_app
from memstore_rl.service.gauge_metrics import GaugeCollector
from memstore_rl.service.journal import Journal
from memstore_rl.service.live import LiveService
from memstore_rl.service.protocol import server_config
from memstore_rl.service.recorder import Recorder, RecorderSchedule
from memstore_rl.service.retraining import Retrainer, RetrainSettings, watch_votes
from memstore_rl.service.service import MAX_BATCH_ROLLOUTS, MAX_WAITING_ROLLOUTS, RewardService
from memstore_rl.service.texts import TextVectors
from memstore_rl.service.wire import check_token
from memstore_rl.verifiers import Verifiers

logger = logging.getLogger(__name__)

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8731
FOLDER, JOURNAL = "service", "journal.sqlite"
_ANSWER_SECONDS = 30
_SWITCH_SECONDS = 0.001
"""Switch interval of the GIL. The event loop and the journal need the GIL briefly several times per request, while the
scoring thread holds it."""
BACKLOG = 2048
"""Maximum number of connections waiting to be accepted."""


@dataclass(frozen=True)
class ServeOptions:
    """Options of `serve`."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    """0: any free port."""
    token: SecretStr | None = None
    """Bearer token; required unless the host is loopback."""
    mode: Mode = "memory"
    model: str | None = None
    """Id of the reward model; None: the memory's default, see `memstore_gnn.verbs.open_model`."""
    device: str | None = None
    expected: int | None = None
    """Number of rollouts in a full group."""
    shaping: Shaping = "probability"
    min_spread: float = 0.0
    """A group whose probabilities lie closer together gets one reward; see docs/rewards.md."""
    residual_weight: float = 1.0
    """Factor of shaping `residual`."""
    verifier_budget: VerifierBudget | None = None
    """Limits of the verifier calls of mode `verdict`, which needs it."""
    gauge: GaugeSettings = field(default_factory=GaugeSettings)
    """Measures whether the memory helps, and what happens if not."""
    verifiers: Verifiers | None = None
    record: bool = True
    """Write scored rollouts to the memory."""
    schedule: RecorderSchedule = field(default_factory=RecorderSchedule)
    retrain: int | None = None
    """Train the reward model again every so many steps of a run; None: only when a client asks for it."""
    retrain_last_steps: int | None = None
    """Train it on the rollouts of each run's last so many steps; None: on all of the memory."""
    max_batch: int = MAX_BATCH_ROLLOUTS
    max_waiting: int = MAX_WAITING_ROLLOUTS
    stop_seconds: float = 60.0
    """Maximum seconds for writing the journal to the memory at shutdown."""


def serve(
    memory: Memory,
    options: ServeOptions,
    *,
    pages: Callable[[LiveService], Mapping[str, ASGIApp]] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve an open memory until SIGTERM or SIGINT.

    Args:
        pages: makes applications that show the service, to mount by path; see `memstore_rl.service.app.make_app`.
        on_ready: called with the service's address once it listens.

    Raises:
        InputError: the address is not loopback and there is no token, the address cannot be bound, or the model is to
            be trained again in a mode without one or without recording.
        LockedError: another service on this machine serves this memory.
        ModelError: the reward model does not exist or does not fit the memory.
    """
    check_address(options.host, options.token)
    memory.stores.check_writable()
    with ExitStack() as held:
        _tune_process(held)
        folder = _own_folder(memory, held)
        listener = held.enter_context(listen(options.host, options.port))
        journal = held.enter_context(closing(Journal(folder / JOURNAL))) if options.record else None
        texts = TextVectors(memory.embedder, memory.cache)
        scorer = held.enter_context(_scorer(memory, options, texts))
        service = _service(scorer, journal, options)
        recorder = _recorder(memory, journal, texts, scorer, service, options.schedule) if journal is not None else None
        if recorder is not None and options.verifier_budget is not None:
            _read_bought_verdicts(recorder, scorer)
        settings = RetrainSettings(options.retrain, options.retrain_last_steps, options.device)
        retrainer = Retrainer(
            memory, scorer, folder, service.metrics, journal=journal, recorder=recorder, settings=settings
        )
        if recorder is not None:
            recorder.start()
        held.callback(retrainer.stop)
        service.on_groups = retrainer.observe

        def info() -> dict[str, Any]:
            return _info(memory, scorer, options) | retrainer.as_info()

        live = LiveService(scorer.gauge, service.metrics, lambda: scorer.verdict_counts, info)
        app = make_app(
            service,
            token=options.token,
            info=info,
            retrain=lambda: retrainer.start().as_json(),
            pages=pages(live) if pages is not None else None,
        )
        run_server(app, listener, on_ready)
        retrainer.stop()
        if recorder is not None:
            left = recorder.stop(options.stop_seconds)
            logger.info("stopped", extra={"left_in_journal": left})


def _tune_process(held: ExitStack) -> None:
    """Limit BLAS to one core, and switch threads often, until `held` is closed."""
    held.enter_context(threadpool_limits(1, user_api="blas"))
    held.callback(sys.setswitchinterval, sys.getswitchinterval())
    sys.setswitchinterval(_SWITCH_SECONDS)


def _own_folder(memory: Memory, held: ExitStack) -> Path:
    """Create the service's folder in the memory, and own it until `held` is closed.

    Raises:
        LockedError: another service owns it.
    """
    folder = memory.folder / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held.callback(OwnerLock(folder).release)
    return folder


def _service(scorer: GroupScorer, journal: Journal | None, options: ServeOptions) -> RewardService:
    """Create the service over a scorer, whose figures its metrics show."""
    service = RewardService(
        scorer, journal, max_batch=options.max_batch, max_waiting=options.max_waiting, model=lambda: _model_id(scorer)
    )
    service.metrics.registry.register(GaugeCollector(scorer.gauge))
    watch_votes(scorer, service.metrics)
    if scorer.verdict_counts is not None:
        service.metrics.watch_verdicts(lambda: scorer.verdict_counts)
    return service


def _recorder(
    memory: Memory,
    journal: Journal,
    texts: TextVectors,
    scorer: GroupScorer,
    service: RewardService,
    schedule: RecorderSchedule,
) -> Recorder:
    """Create the recorder that writes the journal to the memory."""
    return Recorder(
        memory,
        journal,
        flush=texts.flush,
        refresh=scorer.refresh,
        schedule=schedule,
        on_recorded=service.metrics.recorded.inc,
        on_failure=service.metrics.record_failures.inc,
    )


def _read_bought_verdicts(recorder: Recorder, scorer: GroupScorer) -> None:
    """Write what a killed service left in the journal, so that the verdicts that it bought are not bought again.

    Raises:
        MemstoreError: the memory cannot be written; the journal keeps its entries.
    """
    written = 0
    while count := recorder.round():
        written += count
    if written:
        scorer.refresh()


def check_address(host: str, token: SecretStr | None) -> None:
    """Require a token for addresses that other machines can reach.

    Raises:
        InputError: the token is missing or invalid.
    """
    if token is not None:
        check_token(token.get_secret_value())
    if token is None and not is_loopback_host(host):
        raise InputError(
            f"{host} can be reached from other machines, so it needs a token; set MEMSTORE_SERVICE_TOKEN or use --host "
            f"{DEFAULT_HOST}"
        )


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket, before anything slow is loaded, so that a port in use fails at once."""
    listener: socket.socket | None = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sets TCP_NODELAY only if the protocol is given as TCP; without it each response takes 40 ms longer.
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
        residual_weight=options.residual_weight,
        verifier_budget=options.verifier_budget,
        verifiers=options.verifiers,
        gauge=options.gauge,
        embed=texts.embed,
    )


def _model_id(scorer: GroupScorer) -> str | None:
    return scorer.model.model.card.id if scorer.model is not None else None


def _info(memory: Memory, scorer: GroupScorer, options: ServeOptions) -> dict[str, Any]:
    return {
        "memstore": version("memstore"),
        "memory": str(memory.location),
        "namespace": memory.namespace,
        "mode": options.mode,
        "model": _model_id(scorer),
        "shaping": options.shaping,
        "min_spread": options.min_spread,
        "residual_weight": options.residual_weight,
        "when_harmful": options.gauge.when_harmful,
        "gauge": scorer.gauge.reading().as_json(),
        "expected": options.expected,
        "record": options.record,
        "verifier_budget": None if options.verifier_budget is None else asdict(options.verifier_budget),
        "retrain": options.retrain,
    }


def run_server(app: Any, listener: socket.socket, on_ready: Callable[[str], None] | None) -> None:
    """Serve requests until SIGINT or SIGTERM."""
    host, port = listener.getsockname()[:2]
    config = server_config(app, log_config=None, timeout_graceful_shutdown=_ANSWER_SECONDS)
    server = uvicorn.Server(config)
    # uvicorn re-raises the signal that stopped it; ignore it, because the shutdown is already done.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if on_ready is not None:
            on_ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        server.run(sockets=[listener])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if not server.started:
        raise StoreError("the service could not start; see the log above")
