"""The host's handle on a box: a bubblewrap process, whose zygote forks one child at a time."""

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

_START_TIMEOUT_S = 30.0
_RESPONSE_TIMEOUT_S = 5.0


class ExitStatus(NamedTuple):
    """How a child of the zygote ended."""

    status: int
    """Wait status, as from os.wait."""
    cpu_seconds: float
    out_of_time: bool
    """Whether it was killed at its limit of CPU time."""

    @property
    def signal(self) -> int | None:
        """Number of the signal that killed it; None if it exited."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def code(self) -> int | None:
        """Exit code; None if it was killed."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None


class BoxLost(Exception):
    """The box has ended or does not respond; build another one."""


class Box:
    """A running sandbox that waits for tasks. Use it from one thread at a time.

    The box ends with its owner: the zygote exits when the control socket is closed.
    """

    def __init__(self, *, preload: Sequence[str] = ()) -> None:
        """Build a box.

        Args:
            preload: modules that the zygote imports once for all children.

        Raises:
            SandboxError: no box can be built here; the message gives the reason and the fix.
        """
        self.cpu_seconds = 0.0
        """CPU time of all its children so far."""
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
        self._init = _init_process(info)
        self._wait_for_start()

    def _wait_for_start(self) -> None:
        self._control.settimeout(_START_TIMEOUT_S)
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

    def start(self, role: Role, cpu_seconds: float, limits: Mapping[str, int], files: Sequence[int]) -> None:
        """Fork a child for a task. It inherits `files` and no other file descriptors.

        Args:
            cpu_seconds: CPU time after which the child is killed.
            limits: limits of the kernel.

        Raises:
            BoxLost: the box has ended.
        """
        request = json.dumps({"role": role, "cpu_seconds": cpu_seconds, "limits": dict(limits)}).encode()
        self._control.settimeout(_RESPONSE_TIMEOUT_S)
        try:
            socket.send_fds(self._control, [request], list(files))
        except OSError as error:
            raise BoxLost(str(error)) from error

    def wait(self, seconds: float) -> ExitStatus | None:
        """Wait for the child and return how it ended; None if it is still running after `seconds`.

        Raises:
            BoxLost: the box has ended.
        """
        self._control.settimeout(max(seconds, 0.001))
        try:
            message = self._control.recv(1 << 12)
        except TimeoutError:
            return None
        except OSError as error:
            raise BoxLost(str(error)) from error
        if not message:
            raise BoxLost("the box has ended")
        ending = ExitStatus(*json.loads(message))
        self.cpu_seconds += ending.cpu_seconds
        return ending

    def stop(self) -> ExitStatus:
        """Kill the child if it is still running, and return how it ended.

        Raises:
            BoxLost: the box does not respond.
        """
        self._control.settimeout(_RESPONSE_TIMEOUT_S)
        try:
            self._control.send(json.dumps("stop").encode())
        except OSError as error:
            raise BoxLost(str(error)) from error
        ending = self.wait(_RESPONSE_TIMEOUT_S)
        if ending is None:
            raise BoxLost("the box does not respond")
        return ending

    def close(self) -> None:
        """End the box and all its processes."""
        self._control.close()
        if self._init is not None:
            # The kernel kills every process of the namespace with its first one.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            os.close(self._init)
            self._init = None
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()


def _init_process(info: int) -> int | None:
    """Open a pidfd of process 1 of the box, from bubblewrap's info output; None if no box was built."""
    with os.fdopen(info, "rb") as file:
        info_json = file.read()
    try:
        return os.pidfd_open(json.loads(info_json)["child-pid"]) if info_json else None
    except ProcessLookupError:
        return None


def sealed_memfd(content: bytes) -> int:
    """Create a sealed in-memory file with `content`, positioned at its start; nothing can change it."""
    file = os.memfd_create("task", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file
