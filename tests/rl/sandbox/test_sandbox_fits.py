"""Common test styles run unchanged with program and judge in separate processes."""

from __future__ import annotations

import pytest

from memstore_rl.sandbox import CallTests, Sandbox

TEST_STYLES = {
    "containers": (
        "def f(x): return (None, {5: 'a', 'k': [1, (2, 3)]}, {1, 2}, 1.5, True)",
        "assert f(1) == (None, {5: 'a', 'k': [1, (2, 3)]}, {1, 2}, 1.5, True)",
        "passed",
    ),
    "random arguments": (
        "def f(x): return x * 0.1",
        "import random\nfor _ in range(50):\n    v = random.random()\n    assert abs(f(v) - v / 10) < 1e-9",
        "passed",
    ),
    "a tuple is no list": ("def f(x): return (1, 2)", "assert f(1) == [1, 2]", "failed"),
    "a range is no list": ("def f(x): return range(2)", "assert f(1) == [0, 1]", "failed"),
    "a generator": ("def f(x): yield from range(x)", "assert list(f(3)) == [0, 1, 2]", "passed"),
    "keys": ("def f(x): return {1: 2}.keys()", "assert f(1) == {1}", "passed"),
    "an exception": (
        "def f(x): raise ValueError('no')",
        "try:\n    f(1)\nexcept ValueError as e:\n    assert str(e) == 'no'\nelse:\n    assert False",
        "passed",
    ),
    "an exception of its own": (
        "class Mine(Exception): pass\ndef f(x): raise Mine('no')",
        "try:\n    f(1)\nexcept Exception:\n    pass\nelse:\n    assert False",
        "passed",
    ),
    "a list changed in place": ("def f(x): x.sort()", "l = [3, 1, 2]\nf(l)\nassert l == [1, 2, 3]", "passed"),
    "a dict changed in place": ("def f(x): x['b'] = 2", "d = {'a': 1}\nf(d)\nassert d == {'a': 1, 'b': 2}", "passed"),
    "a large integer": ("def f(x): return 10 ** 5000", "assert f(1) == 10 ** 5000", "passed"),
    "odd numbers": (
        "def f(x): return [float('nan'), float('inf'), -0.0, 1 + 2j]",
        "import math\nv = f(1)\nassert math.isnan(v[0]) and v[1] == math.inf and math.copysign(1, v[2]) < 0\n"
        "assert v[3] == 1 + 2j",
        "passed",
    ),
    "odd texts": ("def f(x): return x + '\\0\\ud800\\u2028'", "assert f('a') == 'a\\0\\ud800\\u2028'", "passed"),
    "bytes": ("def f(x): return x[::-1]", "assert f(b'ab') == b'ba'", "passed"),
    "decimals and fractions": (
        "def f(x): return x / 3",
        "from decimal import Decimal\nfrom fractions import Fraction\n"
        "assert f(Decimal(1)) == Decimal(1) / 3 and f(Fraction(1)) == Fraction(1, 3)",
        "passed",
    ),
    "a counter is a dict": (
        "from collections import Counter\nf = Counter",
        "assert f('aab') == {'a': 2, 'b': 1}",
        "passed",
    ),
    "a named tuple is a tuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(x): return P(x, 2)",
        "assert f(1) == (1, 2)",
        "passed",
    ),
    "keywords": ("def f(a, *, b=1): return a - b", "assert f(3, b=2) == 1", "passed"),
    "state between calls": (
        "n = 0\ndef f():\n    global n\n    n += 1\n    return n",
        "assert [f(), f()] == [1, 2]",
        "passed",
    ),
    "numpy in the tests": (
        "def f(x): return [v / 3 for v in x]",
        "import numpy as np\nassert np.allclose(f([1, 2]), [1 / 3, 2 / 3])",
        "passed",
    ),
    "numpy in the program": ("import numpy as np\ndef f(x): return np.sum(x)", "assert f([1, 2]) == 3", "passed"),
    "threads and asyncio in the program": (
        "import asyncio, threading\nasync def g(x): return x\ndef f(x):\n"
        "    t = threading.Thread(target=lambda: None)\n    t.start()\n    t.join()\n    return asyncio.run(g(x))",
        "assert f(5) == 5",
        "passed",
    ),
    "printing": ("def f(x):\n    print('x' * 100_000)\n    return x", "assert f(5) == 5", "passed"),
    "a thousand calls": ("def f(x): return x", "for i in range(1000):\n    assert f(i) == i", "passed"),
    "a function handed over": ("def f(g): return g(2)", "assert f(lambda v: v + 1) == 3", "unsupported"),
    "a function returned": ("def f(x): return lambda y: x + y", "assert f(1)(2) == 3", "opaque"),
    "tests that ask nothing": ("def f(x): return x", "pass", "unreadable"),
    "tests that are broken": ("def f(x): return x", "assert g(1) == f(1)", "unreadable"),
    "tests that do not compile": ("def f(x): return x", "assert f(1) ==", "unreadable"),
    "tests that cannot hold": ("def f(x): return x", "assert 1 == 2 and f(1) == 1", "unreadable"),
    "tests that use what came back": ("def f(x): return None", "assert len(f(1)) == 1", "raised"),
}

LIBRARY = """
import abc, array, ast, asyncio, base64, bisect, calendar, cmath, collections, concurrent.futures, contextlib, copy, csv
import ctypes, dataclasses, datetime, decimal, difflib, doctest, enum, fractions, functools, hashlib, heapq, inspect, io
import itertools, json, logging, math, multiprocessing, numbers, operator, queue, random, re, secrets, socket, sqlite3
import statistics, string, struct, subprocess, tempfile, textwrap, threading, time, types, typing, unicodedata, unittest
import uuid, xml.etree.ElementTree, zlib, zoneinfo
def f(x): return hashlib.md5(b"a").hexdigest()[:4], random.randint(1, 1), len(uuid.uuid4().hex), time.time() > 0
"""


@pytest.mark.parametrize(("program", "tests", "kind"), TEST_STYLES.values(), ids=TEST_STYLES.keys())
def test_styles_of_tests(sandbox: Sandbox, program: str, tests: str, kind: str) -> None:
    outcome = sandbox.run(program, CallTests(("f",), tests))
    assert outcome.kind == kind, outcome
    assert (outcome.reward is None) == (kind in {"unsupported", "unreadable"})


def test_standard_library_is_available(sandbox: Sandbox) -> None:
    assert sandbox.run(LIBRARY, CallTests(("f",), "assert f(1) == ('0cc1', 1, 32, True)")).kind == "passed"
