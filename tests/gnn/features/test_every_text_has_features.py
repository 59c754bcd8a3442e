"""Every program and every query has features and outcomes, at any depth of the caller's stack."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import groups_of
from memstore_gnn.features.assemble import group_features
from memstore_gnn.features.call_examples import entry_point, examples_of, inputs_of
from memstore_gnn.features.program_votes import behaviour_of
from memstore_gnn.features.syntax import normal_source, read_program, shape, syntax_of

PROGRAMS = {
    # A tree as deep as the expression is long: RecursionError of ast.unparse.
    "sum of 400": "return " + " + ".join(["x"] * 400),
    "sum of 4000": "return " + " + ".join(["x"] * 4000),
    "calls": "return x" + "()" * 400,
    "attributes": "return x" + ".a" * 400,
    "subscripts": "return x" + "[0]" * 400,
    "minus": "return " + "-" * 500 + "1",
    "not": "return " + "not " * 500 + "x",
    "lambdas": "return " + "lambda:" * 2000 + "1",
    "conditions": "return " + "1 if x else " * 1500 + "1",
    "powers": "return " + "2**" * 900 + "1",
    "splats": "return " + "[*" * 90 + "x" + "]" * 90,
    "slices": "return " + "x[0:" * 90 + "1" + "]" * 90,
    "brackets": "return " + "(" * 190 + "x" + ")" * 190,
    "too many brackets": "return " + "(" * 5000 + "x" + ")" * 5000,
    "blocks": "\n".join("    " * i + "if x:" for i in range(90)) + "\n" + "    " * 90 + "return x",
    "elif": "if x == 0:\n        return 0" + "".join(f"\n    elif x == {i}:\n        return {i}" for i in range(330)),
    # An integer that Python refuses to write in decimal: ValueError of ast.unparse and ast.dump.
    "hexadecimal": "return 0x" + "F" * 4000,
    "binary": "return 0b" + "1" * 18000,
    "octal in a list": "return [0o" + "7" * 6000 + "]",
    # Text that is not a program, or barely.
    "nothing": "",
    "blank": "   \n\t",
    "null character": "return '\0'",
    "many decorators": "pass\n" + "@a\n" * 5000 + "def f(x): pass",
    "comparison": "return " + "x<" * 5000 + "x",
    "tabs and spaces": "if x:\n\treturn 1\n        return 2",
    "form feed": "return 1\f\nreturn 2",
    "old string": 'return "\\N{no such name}"',
    "nested f-string": "return f'{x!r:{x}{x}}'",
}
QUERIES = {
    "sum in an annotation": "def f(x: " + " + ".join(["a"] * 90) + "):\n    '''Do it.'''\n",
    "deep annotation": "def f(x: " + "-" * 380 + "1):\n    '''Do it.'''\n",
    "hexadecimal annotation": "def f(x: 0x" + "F" * 300 + "):\n    '''Do it.'''\n",
    "attribute annotation": "def f(x: a" + ".b" * 180 + "):\n    '''Do it.'''\n",
    "huge float": "def f(x):\n    '''\n    >>> f(1e999)\n    -1e999\n    '''\n",
    "huge integer": "def f(x):\n    '''\n    >>> f(0x" + "F" * 380 + ")\n    1\n    '''\n",
    "nested list": "def f(x):\n    '''\n    >>> f(" + "[" * 90 + "]" * 90 + ")\n    1\n    '''\n",
    "unhashable key": "def f(x):\n    '''\n    >>> f({[]: 1})\n    {1}\n    '''\n",
    "bytes, complex and dots": "def f(x):\n    '''\n    >>> f(b'a', 1j, ...)\n    1j\n    '''\n",
    "strange name": "def ſ(x):\n    '''Do it.'''\n",
    "no function": "Write a program.",
    "empty": "",
}


@pytest.mark.parametrize("body", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "completion"])
def test_every_program_has_syntax(body: str, whole: bool) -> None:
    query = "def f(x):\n    '''Do it.'''\n"
    program = read_program(query, f"def f(x):\n    {body}" if whole else f"    {body}")
    assert np.isfinite(syntax_of(program)).all()
    assert isinstance(shape(program), str)
    assert normal_source(program) is None or normal_source(program)


@pytest.mark.parametrize("body", PROGRAMS.values(), ids=PROGRAMS)
def test_the_depth_of_the_caller_does_not_matter(body: str) -> None:
    def below(frames: int) -> tuple[object, ...]:
        if frames:
            return below(frames - 1)
        program = read_program("", f"def f(x):\n    {body}")
        return normal_source(program), shape(program)

    assert below(0) == below(sys.getrecursionlimit() - 850)


def test_long_flat_programs_keep_their_syntax() -> None:
    """Long but not deep programs have a source and a shape."""
    for body in ("return " + " + ".join(["x"] * 60), "return [" + "1, " * 4000 + "]", "return 0x" + "F" * 500):
        program = read_program("", f"def f(x):\n    {body}")
        assert normal_source(program)
        assert shape(program)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_every_query_has_calls(query: str) -> None:
    name = entry_point(query)
    if name is not None:
        assert all(isinstance(arguments, tuple) for arguments in inputs_of(examples_of(query, name), query, name))


def test_a_memory_of_such_rows_has_features(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [
        {
            "query": "def f(x):\n    '''\n    >>> f(3)\n    0\n    '''\n",
            "value": str(i),
            "answer": f"def f(x):\n    {body}",
        }
        for i, body in enumerate(text.replace("\0", "") for text in PROGRAMS.values())
    ]
    rows += [{"query": query, "value": "1", "answer": "def f(x):\n    return x"} for query in QUERIES.values() if query]
    snapshot = build_snapshot([row | {"domain": "code"} for row in rows])
    table = group_features(snapshot).table
    assert np.isfinite(table.values).all()
    assert len(behaviour_of(snapshot, groups_of(snapshot)).groups.query_of) == len(rows)
