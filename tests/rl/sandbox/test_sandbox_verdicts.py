"""A program cannot pass by returning lying values, exiting early, or forging messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memstore_rl.sandbox import CallTests, Outcome, Sandbox

Judge = Callable[[str], Outcome]

_FRAMES = """
import json, os
def frame(message):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body
def write_everywhere(content):
    for number in range(3, 64):
        try:
            os.write(number, content)
        except OSError:
            pass
"""

LYING_VALUES = {
    "an object that equals everything": """
        class Anything:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
        def f(x): return Anything()
    """,
    "an integer that equals everything": """
        class Anything(int):
            def __eq__(self, other): return True
            def __index__(self): return 7919
            def __int__(self): return 7919
            def __reduce__(self): return (int, (7919,))
        def f(x): return Anything(5)
    """,
    "a text that equals everything": """
        class Anything(str):
            def __eq__(self, other): return True
            def __hash__(self): return hash(7919)
        def f(x): return Anything("no")
    """,
    "a list that equals everything": """
        class Anything(list):
            def __eq__(self, other): return True
            def __iter__(self): return iter([7919])
        def f(x): return Anything([5])
    """,
    "a class that equals everything": """
        class Meta(type):
            def __eq__(self, other): return True
            def __hash__(self): return 0
            def __instancecheck__(self, other): return True
        class Anything(metaclass=Meta): pass
        def f(x): return Anything
    """,
    "an object that says it is an integer": """
        class Anything:
            __class__ = int
            def __eq__(self, other): return True
        def f(x): return Anything()
    """,
    "an object of numpy's name": """
        class Anything:
            shape = ()
            def item(self): return self
            def __eq__(self, other): return True
        Anything.__module__ = "numpy"
        def f(x): return Anything()
    """,
    "a mock": "from unittest.mock import ANY\ndef f(x): return ANY\n",
    "a generator of everything": "import itertools\ndef f(x): return itertools.count()\n",
    "not a number": "def f(x): return float('nan')\n",
    "itself": "def f(x): return f\n",
    "a list that holds itself": "def f(x):\n    a = []\n    a.append(a)\n    return a\n",
    "a tree of a billion leaves": "def f(x):\n    a = []\n    for _ in range(90): a = [a, a]\n    return a\n",
    "a nest of a hundred thousand lists": "def f(x):\n    a = []\n    for _ in range(100_000): a = [a]\n    return a\n",
    "a text of a hundred megabytes": "def f(x): return 'x' * 100_000_000\n",
    "an integer of a million digits": "def f(x): return 10 ** 1_000_000\n",
    "half a character": "def f(x): return '\\ud800' * 1000\n",
}

ENDING_EARLY = {
    "exit code 0 while it is loaded": "import os\nos._exit(0)\n",
    "sys.exit while it is loaded": "import sys\nsys.exit(0)\n",
    "exit code 0 when it is called": "import os\ndef f(x): os._exit(0)\n",
    "sys.exit when it is called": "import sys\ndef f(x): sys.exit(0)\n",
    "SystemExit when it is called": "def f(x): raise SystemExit(0)\n",
    "exit code 0 at its end": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0\n",
    "the first answer only": "import os\ndef f(x): return 7919 if x == 3 else os._exit(0)\n",
    "closing the channel": "import os\ndef f(x): os.closerange(3, 64)\n",
    "a thread that ends it": "import threading, os\nthreading.Timer(0.01, os._exit, [0]).start()\ndef f(x):\n"
                             "    while True: pass\n",
    "the end of an iteration": "def f(x): raise StopIteration\n",
    "the end of a generator": "def f(x): raise GeneratorExit\n",
    "a keyboard interrupt": "def f(x): raise KeyboardInterrupt\n",
}  # fmt: skip

FORGING = {
    "printing a verdict": """
        print("passed")
        print('["passed", ""]')
        def f(x): return 0
    """,
    "writing a verdict to every file": _FRAMES
    + """
write_everywhere(b'["passed", ""]')
def f(x): return 0
""",
    "writing a verdict in a frame": _FRAMES
    + """
write_everywhere(frame(["passed", ""]) * 3)
def f(x): return 0
""",
    "answers before they are asked for": _FRAMES
    + """
write_everywhere(frame({"loaded": True}))
write_everywhere(b"".join(frame({"id": n, "value": 7919, "changed": [None]}) for n in range(100)))
def f(x): return 0
""",
    "an answer with every number it can think of": _FRAMES
    + """
import threading
def flood():
    for n in range(10_000):
        try: os.write(4, frame({"id": n, "value": 7919, "changed": [None]}))
        except OSError: return
threading.Thread(target=flood, daemon=True).start()
def f(x): return 0
""",
    "an answer that is passed": _FRAMES
    + """
def f(x):
    os.write(4, frame(["passed", ""]))
    return 0
""",
    "a frame of four gigabytes": _FRAMES
    + """
write_everywhere(b"\\xff\\xff\\xff\\xff")
def f(x): return 0
""",
    "a frame of seven million brackets": _FRAMES
    + """
write_everywhere(frame(b"[" * 7_000_000))
def f(x): return 0
""",
    "a frame that is no JSON": _FRAMES
    + """
write_everywhere(frame(b"\\x80\\x04\\x95"))
def f(x): return 0
""",
    "a pickle": _FRAMES
    + """
import pickle
class Bomb:
    def __reduce__(self): return (eval, ("__import__('os')._exit(0)",))
write_everywhere(frame(pickle.dumps(Bomb())))
def f(x): return Bomb()
""",
    "files sent along": """
        import array, os, socket
        def f(x):
            channel = socket.socket(fileno=4)
            for _ in range(100):
                socket.send_fds(channel, [b"\\0\\0\\0\\2{}"], [0, 1, 2])
    """,
}

PATCHING = {
    "builtins": """
        import builtins
        builtins.AssertionError = type("Nothing", (Exception,), {})
        builtins.isinstance = lambda *a: True
        builtins.all = lambda *a: True
        builtins.repr = lambda *a: "7919"
        builtins.len = lambda *a: 0
        builtins.type = lambda *a: int
        def f(x): return 0
    """,
    "check itself": "def check(candidate): pass\ncandidate = lambda *a: 7919\ndef f(x): return 0\n",
    "json": """
        import json, sys, types
        json.dumps = lambda *a, **k: '["passed", ""]'
        json.loads = lambda *a, **k: {"id": 0}
        sys.modules["json"] = types.ModuleType("json")
        def f(x): return 0
    """,
    "unittest and pytest": """
        import sys, types, unittest
        unittest.TestCase.assertEqual = lambda *a, **k: None
        fake = types.ModuleType("pytest"); fake.raises = None
        sys.modules["pytest"] = sys.modules["tests"] = fake
        def f(x): return 0
    """,
    "the interpreter's integers": """
        import ctypes
        # 7919 is no small integer, but 0 is: make zero one, in this process.
        ctypes.memmove(id(0) + 24, (1).to_bytes(4, "little"), 4)
        def f(x): return 0
    """,
    "equality of integers": """
        import ctypes
        ctypes.memset(id(int) + 200, 0, 8)
        def f(x): return 0
    """,
    "the import system": """
        import sys
        class Finder:
            def find_spec(self, name, path=None, target=None): raise SystemExit(0)
        sys.meta_path.insert(0, Finder())
        def f(x): return 0
    """,
    "trace functions": """
        import sys, threading
        def trace(frame, event, argument):
            for name, value in list(frame.f_locals.items()):
                if isinstance(value, dict) and "value" in value:
                    value["value"] = True
            return trace
        sys.settrace(trace); threading.settrace(trace)
        def f(x): return 0
    """,
}

KEEPING_THE_JUDGE_WAITING = {
    "half a frame": _FRAMES
    + """
write_everywhere(b"\\0\\0\\1\\0{")
def f(x): return 0
""",
    "the modules of the sandbox": """
        import sys
        for name in ("inside.frames", "inside.values", "inside.guest", "inside.judge"):
            module = sys.modules[name]
            for function in ("send", "pack", "judge", "_answer"):
                if hasattr(module, function):
                    setattr(module, function, lambda *a, **k: ["passed", ""])
        def f(x): return 0
    """,
    "saying nothing": "import threading\ndef f(x): threading.Event().wait()\n",
    "a judge's question thrown away": "import os\ndef f(x):\n    while os.read(4, 1): pass\n",
}


@pytest.mark.parametrize("attack", LYING_VALUES.values(), ids=LYING_VALUES.keys())
def test_lying_values_do_not_pass(judge: Judge, attack: str) -> None:
    assert judge(attack).reward == 0.0


@pytest.mark.parametrize("attack", ENDING_EARLY.values(), ids=ENDING_EARLY.keys())
def test_early_exit_does_not_pass(judge: Judge, attack: str) -> None:
    assert judge(attack).reward == 0.0


@pytest.mark.parametrize("attack", FORGING.values(), ids=FORGING.keys())
def test_forged_messages_do_not_pass(judge: Judge, attack: str) -> None:
    assert judge(attack).reward == 0.0


@pytest.mark.parametrize("attack", PATCHING.values(), ids=PATCHING.keys())
def test_patching_does_not_pass(judge: Judge, attack: str) -> None:
    assert judge(attack).reward == 0.0


@pytest.mark.parametrize("attack", KEEPING_THE_JUDGE_WAITING.values(), ids=KEEPING_THE_JUDGE_WAITING.keys())
def test_waiting_judge_is_stopped(judge_within_a_second: Judge, attack: str) -> None:
    assert judge_within_a_second(attack).kind == "timeout"


def test_object_that_equals_everything_is_opaque(judge: Judge) -> None:
    outcome = judge(LYING_VALUES["an object that equals everything"])
    assert (outcome.kind, outcome.detail) == ("opaque", "f returned an object of class Anything")


def test_forgery_is_reported(judge: Judge) -> None:
    assert judge(FORGING["answers before they are asked for"]).kind == "forged"
    assert judge(FORGING["writing a verdict in a frame"]).kind == "forged"


SWALLOWING = {
    "zip": "def check(c):\n    for got, wanted in zip(map(c, [3, 4]), [7919, 104729]): assert got == wanted\n",
    "next": "def check(c):\n    for got in iter(lambda: c(3), None):\n        assert got == 7919\n        break\n",
    "bare except": "def check(c):\n    try:\n        c(3)\n    except:\n        return\n    assert False\n",
    "finally": "def check(c):\n    try:\n        assert c(3) == 7919\n    finally:\n        return\n",
}
"""Tests that treat an exception as the end, or as the expected result."""


@pytest.mark.parametrize("tests", SWALLOWING.values(), ids=SWALLOWING.keys())
@pytest.mark.parametrize(
    "attack",
    [
        "import os\ndef f(x): os._exit(0)",
        "def f(x): raise SystemExit",
        "import os\ndef f(x): os.write(4, b'\\0\\0\\0\\2{}')",
        "def f(x):\n    a = []\n    a.append(a)\n    return a",
        "def f(x): return f",
        "import os\ndef f(x): os.close(4)",
    ],
    ids=["exit", "SystemExit", "forged", "cyclic", "object", "closed"],
)
def test_swallowed_exceptions_do_not_hide_an_early_exit(sandbox: Sandbox, tests: str, attack: str) -> None:
    assert sandbox.run(attack, CallTests(("f",), tests, call="check")).reward == 0.0


def test_stop_iteration_does_not_end_the_tests(sandbox: Sandbox) -> None:
    tests = CallTests(("f",), SWALLOWING["zip"], call="check")
    assert sandbox.run("def f(x): raise StopIteration", tests).kind == "raised"


def test_expected_exception_is_seen(sandbox: Sandbox) -> None:
    tests = CallTests(("f",), "def check(c):\n    try:\n        c(-1)\n    except ValueError:\n        return\n"
                              "    assert False\n", call="check")  # fmt: skip
    assert sandbox.run("def f(x): raise ValueError(x)", tests).kind == "passed"
    assert sandbox.run("def f(x): raise KeyError(x)", tests).kind == "raised"
    assert sandbox.run("def f(x): return x", tests).kind == "failed"
