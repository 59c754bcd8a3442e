"""Programs are isolated from each other, in sequence and in parallel, and end with their host."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memstore.errors import SandboxError
from memstore.runtime.fair_queue import CpuAccount
from memstore.testing.processes import wait_for_exit
from memstore_rl.sandbox import CallTests, Limits, Sandbox

_PLANT = """
import atexit, builtins, gc, os, signal, socket, sys, threading
for way in (
    lambda: open("/planted", "w").write("x"),
    lambda: open("/tmp/planted", "w").write("x"),
    lambda: os.putenv("PLANTED", "x"),
    lambda: os.environ.update(PLANTED="x"),
    lambda: setattr(builtins, "PLANTED", "x"),
    lambda: setattr(sys.modules["inside.guest"], "PLANTED", "x"),
    lambda: setattr(sys.modules["json"], "PLANTED", "x"),
    lambda: sys.modules.update(planted=sys),
    lambda: socket.socket(socket.AF_UNIX).bind("\\0planted"),
    lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    lambda: os.umask(0o777),
    lambda: os.nice(5),
    lambda: os.chdir("/dev"),
    lambda: sys.path.insert(0, "/planted"),
    lambda: sys.setrecursionlimit(77),
    lambda: threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start(),
):
    try:
        way()
    except (OSError, ValueError):
        pass
def f(x): return 0
"""
_CHECK = """
import builtins, json, os, signal, sys, threading
def f(x):
    return [
        os.path.exists("/planted"), os.path.exists("/tmp"), "PLANTED" in os.environ, hasattr(builtins, "PLANTED"),
        hasattr(sys.modules["inside.guest"], "PLANTED"), hasattr(json, "PLANTED"), "planted" in sys.modules,
        signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN, os.umask(0o022) == 0o777, os.getcwd() == "/dev",
        "/planted" in sys.path, sys.getrecursionlimit() == 77, threading.active_count() > 1,
    ]
"""


def test_program_leaves_nothing_for_the_next(sandbox: Sandbox) -> None:
    clean = CallTests(("f",), "def check(c):\n    assert not any(c(3)), repr(c(3))\n", call="check")
    assert sandbox.run(_CHECK, clean).kind == "passed"
    assert sandbox.run(_PLANT, clean).reward == 0.0
    assert sandbox.run(_CHECK, clean).kind == "passed"


def test_box_keeps_no_process_of_a_program(sandbox: Sandbox, report: Callable[[str], str]) -> None:
    """No process of an earlier program is alive in the next one."""
    first = int(report("import os\ndef f(x): return os.getpid()\n"))
    report(
        "import threading, time\ndef f(x):\n    threading.Thread(target=time.sleep, args=(99,)).start()\n    return 0\n"
    )
    third = int(report("import os\ndef f(x): return os.getpid()\n"))
    assert third > first
    assert report("import os\ndef f(x): return [n for n in range(1, 400) if n != os.getpid() and alive(n)]\n"
                "def alive(n):\n    try: os.getpgid(n)\n    except ProcessLookupError: return False\n"
                "    return True\n") == "[1, 2]"  # fmt: skip


def test_parallel_programs_do_not_see_each_other(sandbox: Sandbox) -> None:
    program = """
import os, time
def f(x):
    time.sleep(0.5)
    return [n for n in range(1, 400) if n != os.getpid() and alive(n)]
def alive(n):
    try: os.getpgid(n)
    except ProcessLookupError: return False
    return True
"""
    tests = CallTests(("f",), "def check(c):\n    assert c(3) == [1, 2], repr(c(3))\n", call="check")
    with Sandbox(pairs=2, limits=Limits(cpu_seconds=2, wall_seconds=30)) as two:
        assert [outcome.kind for outcome in two.run_all([(program, tests)] * 4)] == ["passed"] * 4


def test_threads_share_one_pair(sandbox: Sandbox) -> None:
    tests = [CallTests(("f",), f"assert f(2) == {2 * n}") for n in range(24)]
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda n: sandbox.run(f"def f(x): return {n} * x", tests[n]), range(24)))
    assert [outcome.kind for outcome in outcomes] == ["passed"] * 24


def test_lost_box_is_rebuilt(sandbox: Sandbox) -> None:
    """A box killed from outside, as by the OOM killer, gives no verdict."""
    for name in ("program", "judge"):
        with sandbox._pair(CpuAccount()) as pair:
            pass
        box = getattr(pair, name)
        signal.pidfd_send_signal(box._init, signal.SIGKILL)
        box._process.wait()
        assert sandbox.run("def f(x): return x", CallTests(("f",), "assert f(1) == 1")).kind == "passed"


_HOST = """
import sys, threading
from memstore.runtime.fair_queue import CpuAccount
from memstore_rl.sandbox import CallTests, Limits, Sandbox
from memstore_rl.sandbox.box import Box

def start(box, *arguments, started=Box.start):
    started(box, *arguments)
    print("started", flush=True)

Box.start = start
sandbox = Sandbox(pairs=1, limits=Limits(cpu_seconds=100, wall_seconds=100))
with sandbox._pair(CpuAccount()) as pair:
    pass
print(pair.program._process.pid, pair.judge._process.pid, flush=True)
sandbox.run("def f(x):\\n    while True: pass", CallTests(("f",), "f(1)"))
"""


def test_killed_host_leaves_no_process(sandbox: Sandbox) -> None:
    host = subprocess.Popen([sys.executable, "-c", _HOST], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    boxes = [int(word) for word in host.stdout.readline().split()]
    assert host.stdout.readline() == "started\n"
    assert all(map(alive, boxes))
    host.kill()
    host.wait()
    host.stdout.close()
    wait_for_exit(*boxes)


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_close_ends_every_process(sandbox: Sandbox) -> None:
    other = Sandbox(pairs=1)
    with other._pair(CpuAccount()) as pair:
        pass
    boxes = [pair.program._process.pid, pair.judge._process.pid]
    other.close()
    other.close()
    assert not any(map(alive, boxes))
    with pytest.raises(SandboxError, match="closed"):
        other.run("def f(x): return x", CallTests(("f",), "f(1)"))


_FORKED = """
import os
from memstore.errors import SandboxError
from memstore_rl.sandbox import CallTests, Sandbox
with Sandbox(pairs=1) as sandbox:
    child = os.fork()
    if child == 0:
        try:
            sandbox.run("def f(x): return x", CallTests(("f",), "f(1)"))
        except SandboxError:
            os._exit(0)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(sandbox.run("def f(x): return x", CallTests(("f",), "assert f(1) == 1")).kind)
"""


def test_forked_copy_cannot_use_the_sandbox(sandbox: Sandbox) -> None:
    """Runs in a single-threaded program: a fork of pytest may inherit a lock that another thread holds."""
    done = subprocess.run([sys.executable, "-c", _FORKED], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "passed"], done.stderr
