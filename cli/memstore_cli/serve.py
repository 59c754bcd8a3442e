"""`memstore serve`: the reward service of a memory."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.opening import opened
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption, UsageError
from memstore_cli.output import print_json

if TYPE_CHECKING:
    from pydantic import SecretStr


TOKEN_VARIABLE = "MEMSTORE_SERVICE_TOKEN"


def serve(
    memory: MemoryOption = "",
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; any but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8731,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            show_default=False,
            help=f"A file that holds the token; or {TOKEN_VARIABLE}.",
        ),
    ] = None,
    mode: Annotated[str, typer.Option("--mode", help="oracle, budget or memory; see docs/rewards.md.")] = "memory",
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="ID", show_default=False, help="A reward model of the memory."),
    ] = None,
    expected: Annotated[
        int | None,
        typer.Option("--expected", "-n", min=1, show_default=False, help="Rollouts of a full group."),
    ] = None,
    shaping: Annotated[str, typer.Option("--shaping", help="How a probability becomes a reward.")] = "probability",
    min_spread: Annotated[
        float,
        typer.Option("--min-spread", min=0, max=1, help="Groups that are told apart less get one reward for all."),
    ] = 0.0,
    code: Annotated[
        bool, typer.Option("--code", help="Judge labelled programs by running them in the sandbox.")
    ] = False,
    record: Annotated[bool, typer.Option(help="Write what was scored to the memory.")] = True,
    refresh: Annotated[
        float | None,
        typer.Option(
            "--refresh", metavar="SECONDS", min=1, show_default=False, help="Read what was recorded so often."
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer reward requests over HTTP: one process owns memory, embedder and reward model.

    Stops on Ctrl-C or SIGTERM, when the requests under way are answered.
    """
    token = read_token(token_file)
    with ExitStack() as held, opened(memory, device=device) as store:
        try:
            from memstore_rl.service.recorder import RecorderSchedule
            from memstore_rl.service.serve import ServeOptions
            from memstore_rl.service.serve import serve as serve_memory
            from memstore_rl.verifiers import make_verifiers
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{error.name} is not installed; install it with: pip install 'memstore[serve]'"
            ) from error

        options = ServeOptions(
            host=host,
            port=port,
            token=token,
            mode=mode,  # type: ignore[arg-type]
            model=model,
            device=store.settings.device,
            expected=expected,
            shaping=shaping,  # type: ignore[arg-type]
            verifiers=held.enter_context(closing(make_verifiers(code=True))) if code else None,
            min_spread=min_spread,
            record=record,
            schedule=RecorderSchedule(refresh_s=refresh),
        )

        def ready(endpoint: str) -> None:
            if as_json:
                print_json({"endpoint": endpoint, "pid": os.getpid(), "memory": str(store.location)})
            else:
                print(f"rewards of {store.location} are served at {endpoint}; stop with Ctrl-C")
            sys.stdout.flush()

        from memstore_rl.service.logs import log_to_stderr

        log_to_stderr()
        serve_memory(store, options, on_ready=ready)


def read_token(file: Path | None) -> SecretStr | None:
    """The token of a file, or of the environment.

    Raises:
        UsageError: the file cannot be read.
    """
    from pydantic import SecretStr

    if file is not None:
        try:
            return SecretStr(file.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise UsageError(f"the token file {file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"the token file {file} is no text; write the token into it and nothing else") from error
    given = os.environ.get(TOKEN_VARIABLE)
    return SecretStr(given) if given else None
