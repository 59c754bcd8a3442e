"""Scripts: each case runs in a new process, and outputs are compared as text."""

from __future__ import annotations

import pytest

from memstore_rl.sandbox import Case, Sandbox, ScriptTests
from memstore_rl.sandbox.run_script import same_output

SUM = ScriptTests((Case("1 2\n", "3\n"), Case("3 4", "7")))

RIGHT = {
    "input": "a, b = map(int, input().split())\nprint(a + b)",
    "stdin": "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
    "stdin, bytes": "import sys\nsys.stdout.buffer.write(b'%d' % sum(map(int, sys.stdin.buffer.readline().split())))",
    "file 0": "print(sum(map(int, open(0).read().split())), end='')",
    "os.read": "import os\nprint(sum(map(int, os.read(0, os.fstat(0).st_size).split())))",
    "main": "def main():\n    print(sum(map(int, input().split())))\nif __name__ == '__main__':\n    main()",
    "a thread": "import threading\nthreading.Thread(target=lambda: print(sum(map(int, input().split())))).start()",
    "exit": "print(sum(map(int, input().split())))\nexit()",
    "at exit": "import atexit\ns = sum(map(int, input().split()))\natexit.register(lambda: print(s))",
}
WRONG = {
    "another number": ("print(4)", "failed"),
    "nothing": ("pass", "failed"),
    "exit code 0": ("import os\nos._exit(0)", "failed"),
    "exit code 3 after the right output": ("print(sum(map(int, input().split())))\nexit(3)", "raised"),
    "an exception after the right output": ("print(sum(map(int, input().split())))\n1 / 0", "raised"),
    "the first case only": ("print(3)", "failed"),
    "a loop after the right output": ("print(sum(map(int, input().split())), flush=True)\nwhile True: pass", "timeout"),
    "output closed, and a loop": ("import os\nos.close(1)\nwhile True: pass", "timeout"),
    "output without end": ("while True: print('x' * 9999)", "output"),
    "no program": ("def", "raised"),
    "a broken pointer": ("import ctypes\nctypes.string_at(0)", "crashed"),
    "a verdict": ('print(\'["passed", ""]\')', "failed"),
    "every answer there could be": ("print(*range(1000), sep='\\n')", "failed"),
    "a file of the host": ("print(open('/etc/passwd').read())", "raised"),
    "reading its output": ("import os\nprint(os.read(1, 100))", "raised"),
    "writing its input": ("import os\nos.write(0, b'0 3')", "raised"),
}


@pytest.mark.parametrize("program", RIGHT.values(), ids=RIGHT.keys())
def test_right_programs_pass(sandbox: Sandbox, program: str) -> None:
    assert sandbox.run(program, SUM).kind == "passed"


@pytest.mark.parametrize(("program", "kind"), WRONG.values(), ids=WRONG.keys())
def test_wrong_programs_fail(sandbox: Sandbox, program: str, kind: str) -> None:
    assert sandbox.run(program, SUM).kind == kind


def test_cases_are_isolated(sandbox: Sandbox) -> None:
    program = "import builtins\nprint(getattr(builtins, 'seen', 0))\nbuiltins.seen = 1"
    assert sandbox.run(program, ScriptTests((Case("", "0"), Case("", "0")))).kind == "passed"


OUTPUTS = [
    ("3\n", "3", True),
    ("3\n4\n", "3 \n4\n\n", True),
    ("3\n4", "3 4", False),
    ("", "", True),
    ("", "x", False),
    ("0.5", "0.5000000001", True),
    ("0.5", "0.51", False),
    ("0.5", ".5", True),
    ("3", "3.0", False),  # integers must match exactly
    ("3", "3.0000000001", False),
    ("1.0", "nan", False),
    ("1.5", "9" * 100 + ".5", False),
    ("Yes", "yes", False),
    ("1.5 x", "1.5000001 x", True),
    ("1.5 x", "1.5 y", False),
]


@pytest.mark.parametrize(("expected", "printed", "same"), OUTPUTS)
def test_same_output(expected: str, printed: str, same: bool) -> None:
    assert same_output(expected, printed) is same
