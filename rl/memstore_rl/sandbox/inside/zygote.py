"""The first process of a box: forks one confined child for each task, one at a time, and ends what it forked.

It never reads anything that a program wrote: it takes requests from the host on a socket of whole messages, and tells
how a child ended. A child has the system call filter, the limits and no file but those of its task before it looks at
the program. Since a child can start no process, write no file and signal nobody, nothing of it is left when the next
one is forked from the untouched zygote.
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
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from . import guest, judge

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_FIRST_FD = 3
_MAX_FDS = 4
_ROLES: dict[str, Callable[[list[int]], None]] = {
    "call": guest.answer_calls,
    "script": guest.run_script,
    "judge": judge.judge,
}


class _Fork(NamedTuple):
    """What a child is to do."""

    role: str
    limits: dict[str, int]
    files: list[int]


def main(control: int, bpf: int, uid: int) -> None:
    """Serve the host until it hangs up; returns in a child, when its task is done."""
    os.closerange(_FIRST_FD, min(control, bpf))
    with os.fdopen(bpf, "rb") as file:
        instructions = file.read()
    _drop_to(uid)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _try_confining(libc, instructions)
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
    """Leave root for `uid`, where bubblewrap was started by root."""
    if os.getuid() == 0 and uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _try_confining(libc: Any, instructions: bytes) -> None:
    """Stop here, and so be no sandbox, where the kernel does not take the filter."""
    child = os.fork()
    if child == 0:
        _confine(libc, instructions, {})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit("the kernel does not take the filter of system calls")


def _serve(channel: socket.socket) -> _Fork:
    """Fork for each request; returns in the child."""
    while True:
        message, files, _, _ = socket.recv_fds(channel, 1 << 12, _MAX_FDS)
        if not message:
            os._exit(0)
        request = json.loads(message)
        if request == "stop":
            continue
        child = os.fork()
        if child == 0:
            return _Fork(request["role"], request["limits"], list(files))
        for file in files:
            os.close(file)
        _watch(channel, child)


def _watch(channel: socket.socket, child: int) -> None:
    """Wait for the child's end, or bring it about when the host says so or is gone; then tell how it ended."""
    ended = os.pidfd_open(child)
    ready, _, _ = select.select([channel.fileno(), ended], [], [])
    os.close(ended)
    gone = False
    if channel.fileno() in ready:
        gone = not channel.recv(1 << 12)
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    if gone:
        os._exit(0)
    channel.send(json.dumps([status, usage.ru_utime + usage.ru_stime]).encode())


def _keep_only(files: list[int]) -> list[int]:
    """Close every file but stdin, stdout, stderr (all of them the null device) and those of the task."""
    high = [os.dup2(file, 200 + place) for place, file in enumerate(files)]
    os.closerange(_FIRST_FD, 200)
    kept = [os.dup2(file, _FIRST_FD + place) for place, file in enumerate(high)]
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
    """Without the filter nothing runs."""
    os._exit(97)
