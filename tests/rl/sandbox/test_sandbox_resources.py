"""What a program can use up: its own limits, and nothing of the host's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest

from memstore_rl.sandbox import Outcome

Judged = Callable[[str], Outcome]
Told = Callable[[str], str]

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
def test_a_program_that_goes_on_is_ended(judged: Judged, attack: str) -> None:
    assert judged(attack).kind == "timeout"


@pytest.mark.parametrize("attack", NO_PASS.values(), ids=NO_PASS.keys())
def test_a_program_that_uses_too_much_fails(judged: Judged, attack: str) -> None:
    assert judged(attack).kind in {"raised", "crashed", "timeout", "exited", "load"}


def test_memory_is_limited_and_said_so(judged: Judged) -> None:
    assert judged("def f(x): return len(bytearray(600 << 20))").detail.startswith("MemoryError")


def test_a_sleeper_is_woken_by_the_clock(sandbox_of_a_second: Judged) -> None:
    begun = time.monotonic()
    assert sandbox_of_a_second("import time\ndef f(x): time.sleep(1000)\n").kind == "timeout"
    assert sandbox_of_a_second("import threading\ndef f(x): threading.Event().wait()\n").kind == "timeout"
    assert time.monotonic() - begun < 120


@pytest.mark.parametrize("way", ["import threading; start = lambda: threading.Thread(target=hang, daemon=True).start()",
                                 "import _thread; _thread.stack_size(32768); "
                                 "start = lambda: _thread.start_new_thread(hang, ())"])  # fmt: skip
def test_threads_are_few(told: Told, way: str) -> None:
    said = told(f"""
        import time
        {way}
        def hang(): time.sleep(30)
        def f(x):
            begun = 0
            try:
                while begun < 5000:
                    start()
                    begun += 1
            except RuntimeError:
                pass
            return begun
    """)
    assert 0 < int(said) < 200


def test_a_fork_bomb_does_not_begin(told: Told) -> None:
    said = told("""
        import os
        def f(x):
            begun = 0
            try:
                while True:
                    os.fork()
                    begun += 1
            except PermissionError:
                return begun
    """)
    assert said == "0"


def test_the_disk_is_not_filled(told: Told) -> None:
    before = shutil.disk_usage("/").free
    said = told("""
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
    assert said == "0"
    assert abs(before - shutil.disk_usage("/").free) < 4 << 30


def test_the_kernels_buffers_are_few(told: Told) -> None:
    """Pipes and sockets hold memory that no limit of address space counts: 64 files are all there are."""
    said = told("""
        import os, socket
        def f(x):
            held = []
            try:
                while len(held) < 5000:
                    held += socket.socketpair()
            except OSError:
                return len(held)
    """)
    assert int(said) <= 64


OUTLIVING = {
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


@pytest.mark.parametrize("attack", OUTLIVING.values(), ids=OUTLIVING.keys())
def test_what_would_outlive_its_verdict_does_not(judged: Judged, attack: str) -> None:
    outcome = judged(attack)
    assert outcome.kind == "failed"
    assert outcome.seconds < 10
