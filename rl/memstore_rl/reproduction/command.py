"""Run the command of a step, with a server beside it if it needs one.

Commands run by the shell in the reproduction's folder, each in a process group of its own, so that Ctrl-C reaches them
once, from here. A command inherits the lock of the folder: if this process is killed, no other run begins while the
command still runs. A command that is a single program is killed then.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from memstore.errors import MemstoreError
from memstore.runtime.disk_space import is_full
from memstore_rl.reproduction.placeholders import filled
from memstore_rl.reproduction.state import RunFolder
from memstore_rl.reproduction.step import Step
from memstore_rl.rollout.parent_watchdog import kill_when_parent_exits

STARTS_WITHIN_S, STOPS_WITHIN_S = 1800.0, 60.0
"""Seconds that a server has to answer, as a large model is loaded; and that a command has to end once it is told to."""
DRAINED_WITHIN_S = 10.0
"""Seconds that the rest of stderr is read after a command has ended: what it has left running may hold stderr open."""
POLL_S = 0.2
SHOWN_PORT = "8000"
"""The port in commands that are printed and not run."""
_COMPOUND = re.compile(r"[;&|\n]|^\s*(?:[A-Za-z_]\w*=|[({!])")
"""A command of several programs, or one that sets variables: the shell stays."""
_ERROR = "error: "


class StepFailed(MemstoreError):
    """The command of a step failed."""


def shown_command(step: Step) -> str:
    """The command as a person would enter it, with the server that it needs in front of it."""
    if step.server is None:
        return step.command
    values = {"port": SHOWN_PORT}
    return f"{filled(step.server.command, values)} &\n{filled(step.command, values)}\nkill $!"


def choose_port(step: Step) -> dict[str, str]:
    """A free port for the placeholder of the step's server; {} if it has none."""
    if not step.port_needed:
        return {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"port": str(free.getsockname()[1])}


def run_command(step: Step, folder: RunFolder, values: Mapping[str, str]) -> None:
    """Run the command of a step to its end.

    Args:
        values: the port of its server, from `choose_port`.

    Raises:
        StepFailed: it failed, or its server did.
    """
    with folder.log(step).open("ab") as log, _serving(step, folder, log, values):
        _check(step, folder, _run(filled(step.command, values), folder, log))


def _run(command: str, folder: RunFolder, log: IO[bytes]) -> tuple[int, list[str]]:
    """Run a command; return its exit code and the last lines of its stderr."""
    with _started(command, folder, log, subprocess.PIPE) as running:
        assert running.stderr is not None
        tail = _Tail(running.stderr, log, echo=command.startswith("memstore "))
        try:
            code = running.wait()
        except BaseException:
            tail.echo = False  # what it says of being stopped is in the log
            raise
        tail.join(DRAINED_WITHIN_S)
    if tail.failure is not None and not code:
        raise StepFailed(f"cannot write {log.name}: {tail.failure}; free some space and run the same command again")
    return code, list(tail.lines)


def _check(step: Step, folder: RunFolder, result: tuple[int, list[str]]) -> None:
    code, lines = result
    if not code:
        return
    said = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)] or lines[-1:]
    why = (said[-1] if said else f"its command ended with {_ending(code)}").rstrip(".")
    resumes = "" if "same command" in why else "; what is done is kept, and the same command resumes"
    raise StepFailed(f"the step {step.name} failed: {why} (log: {folder.log(step)}){resumes}")


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


@contextmanager
def _started(
    command: str, folder: RunFolder, log: IO[bytes], stderr: int | IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A running command; it is stopped if it still runs at the end."""
    line = command if _COMPOUND.search(command) else f"exec {command}"
    running = subprocess.Popen(
        ["/bin/sh", "-c", line],
        cwd=folder.path,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=stderr,
        process_group=0,
        pass_fds=[folder.lock],
    )
    watchdog = kill_when_parent_exits([running.pid])
    try:
        yield running
    finally:
        _stop(running)
        if watchdog is not None:
            watchdog.kill()
            watchdog.communicate()


def _environment() -> Mapping[str, str]:
    """The environment, in which `memstore` and `python` are those of this process."""
    own = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def _stop(running: subprocess.Popen[bytes]) -> None:
    """Tell a command and what it has started to end, and kill them if they do not."""
    if running.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGTERM)
        try:
            running.wait(STOPS_WITHIN_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()


class _Tail(threading.Thread):
    """Copies stderr to the log, keeps its last lines, and shows its progress."""

    def __init__(self, stream: IO[bytes], log: IO[bytes], *, echo: bool) -> None:
        super().__init__(name="stderr of a step", daemon=True)
        self.lines: deque[str] = deque(maxlen=20)
        self.failure: OSError | None = None
        self.echo = echo
        self._stream, self._log = stream, log
        self.start()

    def run(self) -> None:
        """Read until the stream is closed, also when the log cannot be written."""
        for line in self._stream:
            try:
                self._log.write(line)
                self._log.flush()
            except OSError as error:
                if not is_full(error):
                    raise
                self.failure = error
            text = line.decode("utf-8", "replace").strip()
            if not text:
                continue
            self.lines.append(text)
            if self.echo and not text.startswith(_ERROR):
                print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def _serving(step: Step, folder: RunFolder, log: IO[bytes], values: Mapping[str, str]) -> Iterator[None]:
    """Run the server of a step, if it has one, and wait until it answers."""
    if step.server is None:
        yield
        return
    address = f"{filled(step.server.endpoint, values).rstrip('/')}/models"
    if _answers(address):
        # It may serve another checkpoint under the same name.
        raise StepFailed(
            f"something else already answers at {address}, where the server of the step {step.name} is to be; stop it, "
            "or put {port} into serve and endpoint of the plan"
        )
    with _started(filled(step.server.command, values), folder, log, log) as running:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while (code := running.poll()) is None and not _answers(address) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if code is not None or time.monotonic() >= deadline:
            ended = f"ended with {_ending(code)}" if code is not None else f"does not answer at {address}"
            raise StepFailed(
                f"the server of the step {step.name} {ended}; its output is in {folder.log(step)}, what is done is "
                "kept, and the same command resumes"
            )
        yield


def _answers(address: str) -> bool:
    """Whether a server answers at this address, even if it refuses the request or does not speak HTTP."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except http.client.HTTPException:
        return True
    except OSError:
        return False
