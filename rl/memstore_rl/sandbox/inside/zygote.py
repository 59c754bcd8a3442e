"""The first process of a box: forks one confined child per task, one at a time, and reaps it.

It never reads anything that a program wrote. It takes requests from the host on a message socket, kills a child at its
limit of CPU time, and reports how a child ended. The kernel's limit, in whole seconds, stands behind its own. Before a
child reads its program, it has the system call filter, the limits, and no files except those of its task. A child
cannot start a process, write a file or signal another process, so it leaves nothing behind for the next child.
"""

from __future__ import annotations

import array
import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from . import guest, judge

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_FIRST_FD = 3
_MAX_FDS = 4
_CLOCK = 2
"""Kind of a clock that counts the CPU time of a process (CPUCLOCK_SCHED)."""
_WAIT_S = (0.01, 0.1)
"""Shortest and longest time between two looks at that clock."""
_ROLES: dict[str, Callable[[list[int]], None]] = {
    "call": guest.answer_calls,
    "script": guest.run_script,
    "judge": judge.judge,
}


class _Fork(NamedTuple):
    """A request to fork a child."""

    role: str
    cpu_seconds: float
    limits: dict[str, int]
    files: list[int]


def main(control: int, bpf: int, uid: int) -> None:
    """Serve the host until it closes the socket; in a child, return when its task is done."""
    os.closerange(_FIRST_FD, min(control, bpf))
    with os.fdopen(bpf, "rb") as file:
        instructions = file.read()
    _drop_to(uid)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _check_filter(libc, instructions)
    channel = socket.socket(fileno=control)
    channel.send(b"ready")
    silence = os.open("/dev/null", os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)
    gc.collect()
    gc.freeze()
    fork = _serve(channel)
    channel.close()
    files = _keep_only(fork.files)
    _confine(libc, instructions, fork.limits)
    _ROLES[fork.role](files)


def _drop_to(uid: int) -> None:
    """Switch from root to `uid`, if bubblewrap was started by root."""
    if os.getuid() == 0 and uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _check_filter(libc: Any, instructions: bytes) -> None:
    """Exit if the kernel does not accept the filter."""
    child = os.fork()
    if child == 0:
        _confine(libc, instructions, {})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit("the kernel does not accept the system call filter")


def _serve(channel: socket.socket) -> _Fork:
    """Fork a child for each request; return in the child."""
    while True:
        message, files, _, _ = socket.recv_fds(channel, 1 << 12, _MAX_FDS)
        if not message:
            os._exit(0)
        request = json.loads(message)
        if request == "stop":
            continue
        child = os.fork()
        if child == 0:
            return _Fork(request["role"], request["cpu_seconds"], request["limits"], list(files))
        for file in files:
            os.close(file)
        _wait_for_child(channel, child, request["cpu_seconds"])


def _wait_for_child(channel: socket.socket, child: int, cpu_seconds: float) -> None:
    """Wait for the child, or kill it at its limit and when the host requests it or is gone; report how it ended."""
    ended = os.pidfd_open(child)
    ready: list[int] = []
    out_of_time = False
    while not ready and not out_of_time:
        left = cpu_seconds - time.clock_gettime(~child << 3 | _CLOCK)
        out_of_time = left <= 0
        if not out_of_time:
            # Not `left` seconds: several threads use it up sooner.
            ready, _, _ = select.select([channel.fileno(), ended], [], [], min(max(left, _WAIT_S[0]), _WAIT_S[1]))
    os.close(ended)
    host_gone = False
    if channel.fileno() in ready:
        host_gone = not channel.recv(1 << 12)
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    if host_gone:
        os._exit(0)
    channel.send(json.dumps([status, usage.ru_utime + usage.ru_stime, out_of_time]).encode())


def _keep_only(files: list[int]) -> list[int]:
    """Close all files except stdin, stdout and stderr (the null device) and those of the task."""
    high = [os.dup2(file, 200 + index) for index, file in enumerate(files)]
    os.closerange(_FIRST_FD, 200)
    kept = [os.dup2(file, _FIRST_FD + index) for index, file in enumerate(high)]
    os.closerange(_FIRST_FD + len(kept), 1024)
    return kept


def _confine(libc: Any, instructions: bytes, limits: dict[str, int]) -> None:
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    code = array.array("B", instructions)
    address, _ = code.buffer_info()

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    program = Program(len(instructions) // 8, address)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        _refuse()


def _refuse() -> NoReturn:
    """Exit: nothing runs without the filter."""
    os._exit(97)
