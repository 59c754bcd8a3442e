"""The interpreter computes the results of Python, within limits and without access to anything else."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore_gnn.programs.interpreter import Interpreter
from memstore_gnn.programs.limits import Stop, TooMuch, Unsupported

PROGRAMS = {
    "loops": """
def f(xs):
    total, seen = 0, []
    for i, x in enumerate(xs):
        if x < 0:
            continue
        while x > 3:
            x //= 2
            if x == 5:
                break
        else:
            seen.append(i)
        total += x
    return total, seen
""",
    "comprehensions": """
def f(xs):
    squares = {x: x * x for x in xs if x % 2}
    return sorted(squares.items(), key=lambda pair: -pair[1]), sum(y for y in squares.values()), {x for x in xs}
""",
    "recursion": """
def f(xs):
    def fib(n, memo={}):
        if n < 2:
            return n
        if n not in memo:
            memo[n] = fib(n - 1) + fib(n - 2)
        return memo[n]
    return [fib(abs(x) % 15) for x in xs]
""",
    "strings": """
import math
from collections import Counter
from itertools import groupby
def f(xs):
    text = ",".join(str(x) for x in xs)
    runs = [(k, len(list(g))) for k, g in groupby(text)]
    return text[::-1].split(","), f"{len(text):03d} {text!r}", runs, Counter(text).most_common(1), math.gcd(*xs, 6)
""",
    "errors": """
def f(xs):
    try:
        return xs[1] / xs[0]
    except ZeroDivisionError:
        return "zero"
    except (IndexError, KeyError) as error:
        return "index"
    finally:
        xs = None
""",
    "unpacking": """
def f(xs):
    first, *rest = [*xs, 1, 2]
    rest[-1:], counts = [9, 9], {}
    for x in rest:
        counts[x] = counts.get(x, 0) + 1
    counter = 0
    def bump(by=2, *more, scale=1):
        nonlocal counter
        counter += by * scale + len(more)
        return counter
    bump(1, 2, scale=3), bump()
    return first, rest, max(counts.items()), counter, isinstance(xs, (list, tuple)), type(first) == int
""",
}


def _python(source: str, xs: list[int]) -> Any:
    names: dict[str, Any] = {}
    exec(source, names)
    return names["f"](xs)


@settings(deadline=None, max_examples=40)
@given(xs=st.lists(st.integers(-20, 20), max_size=8))
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_computes_what_python_computes(name: str, xs: list[int]) -> None:
    assert Interpreter(ast.parse(PROGRAMS[name])).call("f", [list(xs)]) == _python(PROGRAMS[name], list(xs))


ESCAPES = [
    "return ().__class__.__bases__[0].__subclasses__()",
    "return f.__globals__",
    "return (lambda: 0).__code__",
    "return getattr(x, '__class__')",
    "return '{0.__class__}'.format(x)",
    "return '{0[0]}'.format(x)",
    "return '{:{}}'.format(x, 9)",
    "import os\n    return os.getcwd()",
    "import sys\n    return sys.modules",
    "from math import os\n    return os",
    "return __import__('os')",
    "return open('/etc/hostname').read()",
    "return eval('1')",
    "exec('y = 1')",
    "return globals()",
    "return vars(x)",
    "return str.format",
    "return [].append.__self__",
    "try:\n        1 / 0\n    except Exception as e:\n        return e.__traceback__",
    "class A:\n        pass",
    "yield 1",
    "return type(f)",
    "return input()",
    "return compile('1', '', 'eval')",
]


@pytest.mark.parametrize("body", ESCAPES)
def test_a_program_cannot_escape(body: str) -> None:
    """Each body is unsupported or uses a name that does not exist."""
    with pytest.raises((Stop, NameError)):
        Interpreter(ast.parse(f"def f(x):\n    {body}")).call("f", [[1]])


GREEDY = [
    "while True:\n        pass",
    "return [0] * 10 ** 9",
    "return 'a' * 10 ** 9",
    "return 10 ** 10 ** 10",
    "return 1 << 10 ** 9",
    "return list(range(10 ** 12))",
    "return sum(range(10 ** 12))",
    "y = 2\n    for _ in range(100):\n        y = y * y\n    return y",
    "y = [1]\n    for _ in range(100):\n        y += y\n    return y",
    "y = [1]\n    for _ in range(100):\n        y.extend(y)\n        y = y + y\n    return y",
    "y = 'ab'\n    for _ in range(100):\n        y = y.replace('a', y)\n    return y",
    "return 'x'.ljust(10 ** 9)",
    "return ('y' * 9999).join('x' * 9999)",
    "return '%999999999d' % 1",
    "return f'{1:999999999}'",
    "return format(1, '999999999')",
    "return f(x)",
    "import math\n    return math.factorial(10 ** 6)",
    "from itertools import product\n    return list(product(range(99), repeat=9))",
    "try:\n        while True:\n            pass\n    except:\n        return 1",
]


@pytest.mark.parametrize("body", GREEDY)
def test_a_greedy_program_is_stopped(body: str) -> None:
    with pytest.raises((TooMuch, Unsupported)):
        Interpreter(ast.parse(f"def f(x):\n    {body}")).call("f", [1])


def test_each_call_starts_in_a_new_scope() -> None:
    interpreter = Interpreter(ast.parse("seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)"))
    assert [interpreter.call("f", [1]) for _ in range(3)] == [1, 1, 1]
