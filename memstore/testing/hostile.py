r"""Random text and programs as models write them, damaged and hostile: the examples of a fuzzer.

    response    pieces of answers in all their formats, chat templates and code, in any order
    program     a function of random statements, with or without poison and damage
    query       what they may answer

Everything is drawn from a `random.Random`, so that a seed names an example.
"""

from __future__ import annotations

from random import Random

PIECES = (
    "The answer is ", "Answer: ", "\\boxed{", "}", "{", "####", " 12", "-3.50", "1,000", "\\frac", "\\frac{1}{2}",
    "½", "４２", "³", "₂", "\u202f", "\u00a0", "0.\\overline{3}", "0.333...", "1e-9", "1e999999999", "_{16}", "_2",
    " base 2", " km/h", "\\text{ cm}^2", "元", "万", " and ", ", ", "和", "(A)", "(B) sugar", "B", "b) ", "A、",
    "答案：", "故选", "because ", " or ", "<think>", "</think>", "<answer>", "</answer>", "<|im_end|>",
    "<|im_start|>user\n", "<|channel|>final<|message|>", "</s>", "<s>", "[INST]", "[/INST]", "[DONE]",
    "<｜Assistant｜>", "```", "```python\n", "\n", "\n\n", "    ", "def f(x):", "return ", "class A:",
    "assert f(1) == ", "import os", "'", '"', '"""', "[1, 2]", "{'a': 1}", '{"answer": "', '"}', "lambda: ", "()",
    "x", "+", "-", "*", "^", "=", "\\", "$", "**", "✅", "\ud800", "\0", "e", "i", "\\mathrm{e}", "\\sqrt",
    "\\emptyset", "...", "USER: ", " ASSISTANT:", "system\n", "user\n", "assistant\n", "analysis", "assistantfinal",
    "9" * 50, "(" * 20, "\\left(",
)  # fmt: skip
QUERIES = (
    "", "Which?\n(A) salt\n(B) sugar\n(C) 1,000\n(D) \\frac{1}{2}", "def f(x, y=(1, 2)):\n    '''Add.'''\n",
    "Find x. (a) 21 (b) 22 (c) 23", "$\\textbf{(A)}\\ 1 \\qquad \\textbf{(B)}\\ 2$",
    "def f(x: int) -> int:\n    '''Return x - 3.\n    >>> f(3)\n    0\n    >>> f(-1)\n    -4\n    '''\n",
    "def f(words, n=2):\n    '''f(['a', 'b']) == 'ab'\n    f({'a': 1}) => None\n    '''\n",
)  # fmt: skip
EXPRESSIONS = (
    "x", "y", "0", "-3", "1.5", "'a b'", "None", "True", "[]", "{x: 1}", "{1, 2}", "(x, y)", "f(x)", "len(x)",
    "sorted(x)", "str(x)", "x + y", "x * y", "x ** y", "x << y", "x % y", "x // y", "-x", "not x", "x < y", "x in y",
    "x[0]", "x[1:]", "x[y]", "[y for y in x]", "{y: x for y in x if y}", "sum(y for y in x)", "(lambda y: y)(x)",
    "x.append(y)", "x.split()", "f'{x}-{y!r}'", "'%s' % (x,)", "x if y else y", "range(x)", "max(x, y)", "*x, y",
    "math.sqrt(x)", "Counter(x)", "y := x", "x.__class__", "set(x) | {y}", "map(str, x)", "isinstance(x, int)",
    "hash(x)", "repr(f)", "list({'a', 'b', str(x)})", "'{0.__class__}'.format(x)", "x == x", "[x] * 9999",
    "'x' * 19999", "2 ** 3999", "permutations(range(9))", "list(permutations(range(20000)))", "[x, y] * y",
    "sum([[0] * 9999] * 9999, [])", "''.join(set(str(x)))", "reduce(lambda a, b: a + a, range(99), [x])",
    "(x for x in range(10 ** 18))", "range(10 ** 18)[::2]", "complex(1, 2) ** y", "float('nan')", "f(f(f(x)))",
    "sorted(x, key=lambda v: x.append(v))", "f'{x:{y}}'", "dict(zip(x, x))", "bytes(x)", "__import__('os')",
)  # fmt: skip
STATEMENTS = (
    "y = {0}", "x += {0}", "x[0] = {0}", "x, y = {0}", "return {0}", "pass", "if {0}:\n{1}", "while {0}:\n{1}",
    "for x in {0}:\n{1}", "try:\n{1}\nexcept Exception as e:\n    y = str(e)\nfinally:\n    pass", "def g(x, *y):\n{1}",
    "assert {0}", "raise ValueError({0})", "del x[0]", "global y", "break", "continue", "import math",
    "class A:\n    pass", "with {0}:\n{1}", "yield {0}", "@f\ndef g(x):\n{1}", "y = (y, y)", "x = [x, x]",
    "for _ in range(60):\n    y = (y, y)", "while True:\n    try:\n{2}\n    except:\n        pass",
    "match x:\n    case {0}:\n        pass", "return [x, {0}]", "nonlocal x", "x = {0}",
)  # fmt: skip
HEADS = (
    "", "import math\n", "from collections import Counter\n", "from itertools import *\nfrom functools import *\n",
    "import os, sys\n", "x = 3\n", "from typing import List\n", "async ", "@f\n", "# -*- coding: utf-7 -*-\n",
)  # fmt: skip
NESTS = (
    ("x + ", "x"), ("x()", ""), ("-", "1"), ("not ", "x"), ("lambda:", "1"), ("1 if x else ", "1"), ("2**", "2"),
    ("[*", "x"), ("(", "x"), ("x[", "0"), ("x<", "x"), ("x.a", ""), ("await ", "x"), ("{x:", "1"), ("f'{", "x"),
)  # fmt: skip


def response(chance: Random) -> str:
    """Draw a text of up to a few kilobytes."""
    size = chance.choice((3, 10, 30, 200))
    extra = (chr(chance.randrange(0x20, 0x3000)), str(chance.randrange(10**6)), program(chance))
    text = "".join(chance.choices([*PIECES, *extra[:2]], k=size))
    kind = chance.random()
    if kind < 0.15:
        return (text * 400)[:2_400]
    if kind < 0.3:
        return f"{text}\n```python\n{extra[2]}\n```"
    return text


def query(chance: Random) -> str:
    """Draw a query's text, now and then one with an annotation that is deep or a huge number."""
    if chance.random() < 0.2:
        return f"def f(x: {_poison(chance, 300)}):\n    '''Do it.\n    >>> f({_poison(chance, 100)})\n    1\n    '''\n"
    return chance.choice(QUERIES)


def program(chance: Random) -> str:
    """Draw a program that defines `f`, mostly one that parses."""
    body = "\n".join(_statement(chance, 0) for _ in range(chance.randint(1, 5)))
    text = f"{chance.choice(HEADS)}def f(x, y=2):\n{_indented(body)}"
    return _damaged(chance, text) if chance.random() < 0.15 else text


def _statement(chance: Random, depth: int) -> str:
    expression = _poison(chance, 4_000) if chance.random() < 0.02 else _expression(chance, 0)
    inner = "pass" if depth > 3 else "\n".join(_statement(chance, depth + 1) for _ in range(chance.randint(1, 2)))
    return chance.choice(STATEMENTS).format(expression, _indented(inner), _indented(_indented(inner)))


def _expression(chance: Random, depth: int) -> str:
    drawn = chance.choice(EXPRESSIONS)
    if depth < 3 and chance.random() < 0.3:
        return drawn.replace("x", f"({_expression(chance, depth + 1)})", 1)
    return drawn


def _poison(chance: Random, length: int) -> str:
    """Draw an expression that is deep, or a number that Python does not write out."""
    if chance.random() < 0.2:
        return chance.choice(("0x", "0b1", "0o")) + chance.choice("17") * length
    opening, core = chance.choice(NESTS)
    times = chance.randint(1, max(1, length // len(opening)))
    closing = "".join({"[": "]", "(": ")", "{": "}"}.get(sign, "") for sign in reversed(opening))
    return opening * times + core + (closing * times if chance.random() < 0.9 else "")


def _damaged(chance: Random, text: str) -> str:
    """Cut, repeat or replace a part."""
    start = chance.randrange(len(text))
    end = min(len(text), start + chance.randint(0, 12))
    return text[:start] + chance.choice(("", text[start:end] * 3, chance.choice(PIECES))) + text[end:]


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.split("\n"))
