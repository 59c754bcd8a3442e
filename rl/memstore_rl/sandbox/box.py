"""One box, seen from outside: a bubblewrap process, and the children that its zygote forks one after another."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from memstore.errors import SandboxError
from memstore_rl.sandbox.bubblewrap import box_command, build_error_message, identity
from memstore_rl.sandbox.seccomp import program_filter

Role: TypeAlias = Literal["call", "script", "judge"]

_START_SECONDS = 30.0
_ANSWER_SECONDS = 5.0


class ExitStatus(NamedTuple):
    """How a child ended."""

    status: int
    """As os.wait gives it."""
    cpu_seconds: float

    @property
    def signal(self) -> int | None:
        """The signal that killed it."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def code(self) -> int | None:
        """What it exited with."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None


class BoxLost(Exception):
    """The box is gone or does not answer: build another."""


class Box:
    """A sandbox that is up and waits for tasks. Used by one thread at a time.

    The box ends with the process that holds it: its zygote reads the end of the control socket.
    """

    def __init__(self, *, preload: Sequence[str] = ()) -> None:
        """Build it.

        Raises:
            SandboxError: that cannot be done here; the message says why and what helps.
        """
        who = identity()
        instructions = program_filter()
        self._control, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bpf = sealed_memfd(instructions)
        info, inner_info = os.pipe()
        try:
            command = box_command(who, inner.fileno(), bpf, inner_info, preload=preload)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(inner.fileno(), bpf, inner_info),
                env={"PATH": "/usr/bin:/bin"},
                user=who.start_as,
                group=who.start_as,
                extra_groups=None if who.start_as is None else [],
            )
        except SandboxError:
            self._control.close()
            os.close(info)
            raise
        finally:
            inner.close()
            os.close(bpf)
            os.close(inner_info)
        self._first = _first_process(info)
        self._await_start()

    def _await_start(self) -> None:
        self._control.settimeout(_START_SECONDS)
        try:
            started = self._control.recv(16) == b"ready"
        except OSError:
            started = False
        assert self._process.stderr is not None
        if not started:
            self._process.kill()
            complaint = self._process.stderr.read().decode(errors="replace")
            self.close()
            raise SandboxError(build_error_message(complaint))
        self._process.stderr.close()

    def start(self, role: Role, limits: Mapping[str, int], files: Sequence[int]) -> None:
        """Fork a child for a task; it gets `files`, and no other.

        Raises:
            BoxLost: there is nobody to fork it.
        """
        request = json.dumps({"role": role, "limits": dict(limits)}).encode()
        self._control.settimeout(_ANSWER_SECONDS)
        try:
            socket.send_fds(self._control, [request], list(files))
        except OSError as error:
            raise BoxLost(str(error)) from error

    def wait(self, seconds: float) -> ExitStatus | None:
        """How the child ended; None: it has not within this time.

        Raises:
            BoxLost: nobody knows.
        """
        self._control.settimeout(max(seconds, 0.001))
        try:
            message = self._control.recv(1 << 12)
        except TimeoutError:
            return None
        except OSError as error:
            raise BoxLost(str(error)) from error
        if not message:
            raise BoxLost("the box is gone")
        status, cpu_seconds = json.loads(message)
        return ExitStatus(status, cpu_seconds)

    def stop(self) -> ExitStatus:
        """End the child, if it has not ended by itself, and say how it ended.

        Raises:
            BoxLost: the box does not answer.
        """
        self._control.settimeout(_ANSWER_SECONDS)
        try:
            self._control.send(json.dumps("stop").encode())
        except OSError as error:
            raise BoxLost(str(error)) from error
        ending = self.wait(_ANSWER_SECONDS)
        if ending is None:
            raise BoxLost("the box does not answer")
        return ending

    def close(self) -> None:
        """End the box and all in it."""
        self._control.close()
        if self._first is not None:
            # Its death ends every process of its namespace, whatever state they are in.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            os.close(self._first)
            self._first = None
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()


def _first_process(info: int) -> int | None:
    """A handle on process 1 of the box, which bubblewrap names in its info; None where it built none."""
    with os.fdopen(info, "rb") as file:
        said = file.read()
    try:
        return os.pidfd_open(json.loads(said)["child-pid"]) if said else None
    except ProcessLookupError:
        return None


def sealed_memfd(content: bytes) -> int:
    """A file in memory that holds `content`, read from its beginning; nobody can change it any more."""
    file = os.memfd_create("task", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file
