"""`memstore serve`: run the reward service of a memory."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.credentials import read_secret
from memstore_cli.open_memory import open_memory
from memstore_cli.options import (
    CodeOption,
    DeviceOption,
    JsonOption,
    MemoryOption,
    ModelOption,
    UsageError,
    with_option_groups,
)
from memstore_cli.output import print_json

if TYPE_CHECKING:
    from pydantic import SecretStr
    from starlette.types import ASGIApp

    from memstore_rl.service.live import LiveService
    from memstore_rl.service.serve import ServeOptions
    from memstore_rl.verifiers import Verifiers

TOKEN_VARIABLE = "MEMSTORE_SERVICE_TOKEN"

HostOption = Annotated[str, typer.Option("--host", help="Address to listen on; any but loopback requires a token.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 picks a free one.")]


@dataclass(frozen=True)
class ListenOptions:
    """Where the service listens."""

    host: HostOption = "127.0.0.1"
    port: PortOption = 8731
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            show_default=False,
            help=f"File with the token. Default: the variable {TOKEN_VARIABLE}.",
        ),
    ] = None

    def token(self) -> SecretStr | None:
        """The token of the file or the variable; None if there is none."""
        return read_secret(self.token_file, TOKEN_VARIABLE, "token")


@dataclass(frozen=True)
class RewardOptions:
    """How rewards are computed and recorded."""

    mode: Annotated[str, typer.Option("--mode", help="oracle, budget, memory or verdict; see docs/rewards.md.")] = (
        "memory"
    )
    model: ModelOption = None
    expected: Annotated[
        int | None,
        typer.Option("--expected", "-n", min=1, show_default=False, help="Rollouts of a complete group."),
    ] = None
    shaping: Annotated[str, typer.Option("--shaping", help="Mapping from probability to reward.")] = "probability"
    min_spread: Annotated[
        float,
        typer.Option(
            "--min-spread", min=0, max=1, help="Groups whose probabilities differ by less get one reward for all."
        ),
    ] = 0.0
    residual_weight: Annotated[
        float, typer.Option("--residual-weight", help="Factor of shaping residual; above 0.")
    ] = 1.0
    verifier_calls: Annotated[
        int | None,
        typer.Option("--verifier-calls", show_default=False, help="Mode verdict: verifier calls a training step."),
    ] = None
    verifier_total: Annotated[
        int | None,
        typer.Option(
            "--verifier-total", show_default=False, help="Mode verdict: verifier calls in all; see docs/rewards.md."
        ),
    ] = None
    verifier_wait: Annotated[
        float,
        typer.Option(
            "--verifier-wait",
            metavar="SECONDS",
            help="Mode verdict: how long a step waits for verdicts; later ones count from the next step on.",
        ),
    ] = 60.0
    when_harmful: Annotated[
        str,
        typer.Option("--when-harmful", help="If the gauge finds the memory harmful: stop its predictions, or warn."),
    ] = "stop"
    gauge_share: Annotated[
        float, typer.Option("--gauge-share", min=0, max=1, help="Share of the labelled groups that the gauge reads.")
    ] = 1.0
    code: CodeOption = False
    record: Annotated[bool, typer.Option(help="Write scored rollouts to the memory.")] = True
    refresh: Annotated[
        float | None,
        typer.Option(
            "--refresh",
            metavar="SECONDS",
            min=1,
            show_default=False,
            help="Interval at which the memory is read again. Default: only at the start.",
        ),
    ] = None

    rescore: Annotated[
        bool,
        typer.Option("--rescore", help="After each verdict on the page Queue, score the rollouts near it again."),
    ] = False
    retrain: Annotated[
        int | None,
        typer.Option(
            "--retrain",
            metavar="STEPS",
            min=1,
            show_default=False,
            help="Train the reward model again every so many steps of a run. Default: only when a client asks for it.",
        ),
    ] = None
    retrain_last_steps: Annotated[
        int | None,
        typer.Option(
            "--retrain-last-steps",
            metavar="N",
            min=1,
            show_default=False,
            help="Train it again on the rollouts of each run's last N steps. Default: on all.",
        ),
    ] = None

    def options(
        self, listen: ListenOptions, token: SecretStr | None, device: str | None, verifiers: Verifiers | None
    ) -> ServeOptions:
        """The library's form of these options."""
        from memstore_rl.rewards.gauge import GaugeSettings
        from memstore_rl.rewards.verifier_budget import VerifierBudget
        from memstore_rl.service.recorder import RecorderSchedule
        from memstore_rl.service.serve import ServeOptions

        return ServeOptions(
            host=listen.host,
            port=listen.port,
            token=token,
            mode=self.mode,  # type: ignore[arg-type]
            model=self.model,
            device=device,
            expected=self.expected,
            shaping=self.shaping,  # type: ignore[arg-type]
            verifiers=verifiers,
            min_spread=self.min_spread,
            residual_weight=self.residual_weight,
            verifier_budget=VerifierBudget.of(self.verifier_calls, self.verifier_total, self.verifier_wait),
            gauge=GaugeSettings(self.when_harmful, self.gauge_share),  # type: ignore[arg-type]
            record=self.record,
            schedule=RecorderSchedule(refresh_s=self.refresh),
            retrain=self.retrain,
            retrain_last_steps=self.retrain_last_steps,
        )


@with_option_groups
def serve(
    listen: ListenOptions,
    rewards: RewardOptions,
    memory: MemoryOption = "",
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve rewards over HTTP; one process owns memory, embedder and reward model.

    Ctrl-C or SIGTERM stops the service after the running requests.
    """
    token = listen.token()
    with ExitStack() as stack, open_memory(memory, device=device) as store:
        try:
            from memstore_rl.inspector.app import make_pages
            from memstore_rl.inspector.site import PREFIX
            from memstore_rl.inspector.source import MemorySource
            from memstore_rl.service.logs import log_to_stderr
            from memstore_rl.service.serve import serve as serve_memory
            from memstore_rl.verifiers import make_verifiers
        except ModuleNotFoundError as error:
            raise UsageError(f"{error.name} is not installed; run: pip install 'memstore[serve]'") from error

        verifiers = stack.enter_context(closing(make_verifiers(code=True))) if rewards.code else None
        options = rewards.options(listen, token, store.settings.device, verifiers)

        def announce(endpoint: str) -> None:
            if as_json:
                print_json({"endpoint": endpoint, "pid": os.getpid(), "memory": str(store.location)})
            else:
                print(f"serving rewards of {store.location} at {endpoint}; stop with Ctrl-C")
            sys.stdout.flush()

        shown = ExitStack()  # the pages, which close before the memory

        def pages(live: LiveService) -> dict[str, ASGIApp]:
            made = make_pages(MemorySource(store), token=token, live=live, rescore=rewards.rescore)
            shown.callback(made.state.site.close)
            return {PREFIX: made}

        log_to_stderr()
        with shown:
            serve_memory(store, options, pages=pages, on_ready=announce)
