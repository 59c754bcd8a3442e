"""Resource limits: a program can exhaust its own limits and nothing of the host."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest

from memstore_rl.sandbox import Outcome

Judge = Callable[[str], Outcome]
Report = Callable[[str], str]

OUT_OF_TIME = {
    "a loop without end": "def f(x):\n    while True: pass\n",
    "a loop while it is loaded": "while True: pass\n",
    "a loop that ignores every signal": """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        def f(x):
            while True: pass
    """,
    "a loop that swallows every exception": """
        def f(x):
            while True:
                try:
                    while True: pass
                except BaseException: pass
    """,
    "output without end": "import os\ndef f(x):\n    while True: os.write(1, b'x' * 65536); print('x' * 65536)\n",
    "a catastrophic regular expression": "import re\ndef f(x): return re.match(r'(a+)+$', 'a' * 60 + 'b')\n",
    "a power of a power": "def f(x): return 9 ** 9 ** 9\n",
    "an exponential while it is compiled": "X = 7 ** 7 ** 9 ** 8\ndef f(x): return X\n",
    "raising its own limit": """
        import resource
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
        except ValueError:
            pass
        def f(x):
            while True: pass
    """,
}

NO_PASS = {
    "ten gigabytes": "def f(x):\n    kept = []\n    while True: kept.append(bytearray(50 << 20))\n",
    "a string that doubles": "def f(x):\n    s = 'x'\n    while True: s += s\n",
    "a map of all memory": "import mmap\ndef f(x): return mmap.mmap(-1, 1 << 40)\n",
    "recursion without end": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x) + 1\n",
    "a broken pointer": "import ctypes\ndef f(x): return ctypes.string_at(0)\n",
    "a call of a broken pointer": "import ctypes\ndef f(x): return ctypes.CFUNCTYPE(ctypes.c_int)(1)()\n",
    "a syntax tree of a million levels": "f = " + "(" * 100_000 + "1" + ")" * 100_000 + "\n",
    "abort": "import os\ndef f(x): os.abort()\n",
    "an alarm": "import signal\ndef f(x):\n    signal.alarm(1)\n    signal.pause()\n",
    "a broken code object": "def f(x): return x\nf.__code__ = f.__code__.replace(co_code=b'\\xff' * 100)\n",
}


@pytest.mark.parametrize("attack", OUT_OF_TIME.values(), ids=OUT_OF_TIME.keys())
def test_endless_program_times_out(judge: Judge, attack: str) -> None:
    assert judge(attack).kind == "timeout"


@pytest.mark.parametrize("attack", NO_PASS.values(), ids=NO_PASS.keys())
def test_excessive_program_fails(judge: Judge, attack: str) -> None:
    assert judge(attack).kind in {"raised", "crashed", "timeout", "exited", "load"}


def test_memory_limit_is_reported(judge: Judge) -> None:
    assert judge("def f(x): return len(bytearray(600 << 20))").detail.startswith("MemoryError")


def test_wall_clock_limit_stops_a_sleeping_program(judge_within_a_second: Judge) -> None:
    started = time.monotonic()
    assert judge_within_a_second("import time\ndef f(x): time.sleep(1000)\n").kind == "timeout"
    assert judge_within_a_second("import threading\ndef f(x): threading.Event().wait()\n").kind == "timeout"
    assert time.monotonic() - started < 120


@pytest.mark.parametrize("way", ["import threading; start = lambda: threading.Thread(target=hang, daemon=True).start()",
                                 "import _thread; _thread.stack_size(32768); "
                                 "start = lambda: _thread.start_new_thread(hang, ())"])  # fmt: skip
def test_number_of_threads_is_limited(report: Report, way: str) -> None:
    result = report(f"""
        import time
        {way}
        def hang(): time.sleep(30)
        def f(x):
            started = 0
            try:
                while started < 5000:
                    start()
                    started += 1
            except RuntimeError:
                pass
            return started
    """)
    assert 0 < int(result) < 200


def test_fork_bomb_is_denied(report: Report) -> None:
    result = report("""
        import os
        def f(x):
            started = 0
            try:
                while True:
                    os.fork()
                    started += 1
            except PermissionError:
                return started
    """)
    assert result == "0"


def test_disk_cannot_be_filled(report: Report) -> None:
    before = shutil.disk_usage("/").free
    result = report("""
        import os
        def f(x):
            written = 0
            for folder in ("/tmp", "/", "/dev", "/dev/shm", "/var/tmp", "/box", "/python/lib", "/usr/lib"):
                try:
                    for number in range(2000):
                        with open(f"{folder}/{number}", "wb") as file:
                            written += file.write(bytes(4 << 20))
                except OSError:
                    pass
            return written
    """)
    assert result == "0"
    assert abs(before - shutil.disk_usage("/").free) < 4 << 30


def test_kernel_buffers_are_limited(report: Report) -> None:
    """Pipes and sockets use memory outside the address space limit; the limit of 64 files bounds it."""
    result = report("""
        import os, socket
        def f(x):
            held = []
            try:
                while len(held) < 5000:
                    held += socket.socketpair()
            except OSError:
                return len(held)
    """)
    assert int(result) <= 64


DELAYED_EXIT = {
    "a time bomb at its end": "import atexit, time\natexit.register(time.sleep, 1000)\ndef f(x): return 0\n",
    "a thread that goes on": """
        import threading
        def go_on():
            while True: pass
        threading.Thread(target=go_on).start()
        def f(x): return 0
    """,
    "a daemon": """
        import os
        def f(x):
            try:
                if os.fork() == 0:
                    os.setsid()
                    while True: pass
            except PermissionError:
                return 0
    """,
    "an object whose end never comes": """
        class Endless:
            def __del__(self):
                while True: pass
        kept = Endless()
        def f(x): return 0
    """,
}


@pytest.mark.parametrize("attack", DELAYED_EXIT.values(), ids=DELAYED_EXIT.keys())
def test_program_does_not_outlive_its_verdict(judge: Judge, attack: str) -> None:
    outcome = judge(attack)
    assert outcome.kind == "failed"
    assert outcome.seconds < 10
