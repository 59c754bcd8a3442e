"""A program learns nothing about its tests except the arguments of its calls."""

from __future__ import annotations

from collections.abc import Callable

from memstore_rl.sandbox import CallTests, Sandbox

_SECRETS = ("MAGIC_EXPECTED", "104729")
_TESTS = CallTests(
    ("f",),
    """
MAGIC_EXPECTED = 7919

def check(candidate):
    found = candidate(3)
    assert found == 104729, "found:" + repr(found)
""",
    call="check",
)
_WORDS = str([list(map(ord, secret)) for secret in _SECRETS])
"""The secrets as character codes, so that the program's own text, constants and memory do not hold them."""


def search_result(sandbox: Sandbox, program: str) -> str:
    outcome = sandbox.run(program, _TESTS)
    assert outcome.kind == "failed"
    return outcome.detail.partition("found:")[2]


def test_stack_holds_no_secret(sandbox: Sandbox) -> None:
    program = f"""
words = lambda spelled: ["".join(map(chr, word)) for word in spelled]
import sys, threading
def f(x):
    texts = []
    for frame in [sys._getframe(), *sys._current_frames().values()]:
        while frame:
            texts.append(repr(frame.f_locals) + repr(frame.f_globals) + repr(frame.f_code.co_consts))
            frame = frame.f_back
    return len(texts) > 3, [word for word in words({_WORDS}) if any(word in text for text in texts)]
"""
    assert search_result(sandbox, program) == "(True, [])"


def test_garbage_collector_finds_no_secret(sandbox: Sandbox) -> None:
    program = f"""
words = lambda spelled: ["".join(map(chr, word)) for word in spelled]
import gc
def f(x):
    gc.unfreeze()
    known = gc.get_objects()
    texts = [thing for thing in known if isinstance(thing, str)]
    for thing in known:
        texts += [part for part in gc.get_referents(thing) if isinstance(part, (str, int))]
    texts = set(map(str, texts))
    return len(texts) > 1000, [word for word in words({_WORDS}) if word in texts]
"""
    assert search_result(sandbox, program) == "(True, [])"


def test_heap_holds_no_secret(sandbox: Sandbox) -> None:
    """Without /proc there is no memory map, so the program reads the heap around known objects."""
    program = f"""
words = lambda spelled: ["".join(map(chr, word)) for word in spelled]
import ctypes
def f(x):
    here = [id(f), id(object()), id([]), id("x" * 100)]
    heap = b"".join(ctypes.string_at(max(address - 100_000, 0) & ~4095, 4096) for address in here)
    return len(heap), [word for word in words({_WORDS}) if word.encode() in heap]
"""
    result = sandbox.run(program, _TESTS)
    assert result.kind in {"failed", "crashed"}
    assert "found:(16384, [])" in result.detail or result.kind == "crashed"


def test_arguments_environment_and_modules_hold_no_secret(sandbox: Sandbox) -> None:
    program = f"""
words = lambda spelled: ["".join(map(chr, word)) for word in spelled]
import os, sys
def f(x):
    texts = [repr(sys.argv), repr(sys.orig_argv), repr(dict(os.environ)), repr(sorted(sys.modules))]
    return [word for word in words({_WORDS}) if any(word in text for text in texts)]
"""
    assert search_result(sandbox, program) == "[]"


def test_channel_carries_arguments_only(sandbox: Sandbox) -> None:
    """The program reads from the channel itself."""
    program = """
import os, json
def f(x):
    if x != 3:
        return 0
    body = json.dumps({"id": 0, "value": 0, "changed": [None]}).encode()
    os.set_blocking(4, False)
    try:
        return os.read(4, 100000)
    except BlockingIOError:
        return "nothing"
    finally:
        os.set_blocking(4, True)
"""
    assert search_result(sandbox, program) == "'nothing'"


def test_judge_job_is_in_another_box(report: Callable[[str], str]) -> None:
    """The tests are passed to the judge in an in-memory file, which the program does not have."""
    result = report("""
        import os
        def f(x):
            found = []
            for number in range(3, 64):
                try:
                    os.lseek(number, 0, 0)
                    found.append(os.read(number, 1000))
                except OSError:
                    pass
            return found
    """)
    assert result == "[]"


def test_assertion_text_does_not_reach_the_program(sandbox: Sandbox) -> None:
    """A program that is called repeatedly does not learn whether it was right."""
    tests = CallTests(
        ("f",), "def check(c):\n    for _ in range(3):\n        assert c(3) == 5, '104729'\n", call="check"
    )
    program = "seen = []\ndef f(x):\n    seen.append(x)\n    return 5 if len(seen) < 3 else repr(seen)\n"
    outcome = sandbox.run(program, tests)
    assert outcome.kind == "failed"
    assert all(secret not in program for secret in _SECRETS)
