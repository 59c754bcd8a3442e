"""Reading tests from gold answers in the formats of data sets, and programs from answers."""

from __future__ import annotations

import json

import pytest

from memstore.errors import InputError
from memstore_rl.sandbox import CallTests, Case, Sandbox, ScriptTests, read_tests
from memstore_rl.sandbox.prompt import program_of, read_prompt

PROMPT = '''from typing import List


def half(x):
    return x // 2


def twice(xs: List[int]) -> int:
    """ Sum, doubled """
'''
CHECK = "def check(candidate):\n    assert candidate([1, 2]) == 6\n    assert half(candidate([1, 2])) == 3\n"


def test_check_gets_its_function_from_the_query() -> None:
    tests = read_tests(CHECK, PROMPT)
    assert isinstance(tests, CallTests)
    assert (tests.names, tests.call) == (("twice",), "check")
    assert tests.prelude == PROMPT[: PROMPT.index("def twice")]


def test_check_called_by_the_tests_is_not_called_again() -> None:
    tests = read_tests("def check(candidate):\n    assert candidate(1) == 2\n\ncheck(add)\n", "Write add.")
    assert tests == CallTests(("add",), "def check(candidate):\n    assert candidate(1) == 2\n\ncheck(add)\n")


def test_entry_point_names_the_function() -> None:
    tests = read_tests(json.dumps({"test": "def check(candidate):\n    assert candidate(1)", "entry_point": "add"}), "")
    assert isinstance(tests, CallTests)
    assert (tests.names, tests.call) == (("add",), "check")


@pytest.mark.parametrize(
    "gold",
    [
        "assert add(1, 2) == 3\nassert set(sub(3, n) for n in range(2)) == {3, 2}",
        json.dumps(["assert add(1, 2) == 3", "assert set(sub(3, n) for n in range(2)) == {3, 2}"]),
        json.dumps({"test_list": ["assert add(1, 2) == 3", "assert sub(3, 1) == 2"], "test_setup_code": ""}),
        json.dumps({"test_list": ["assert add(1, 2) == 3", "assert sub(3, 1) == 2"], "test_imports": ["import math"]}),
    ],
)
def test_assertions_name_their_functions(sandbox: Sandbox, gold: str) -> None:
    tests = read_tests(gold, "Write functions to add and to subtract.")
    assert isinstance(tests, CallTests)
    assert sorted(tests.names) == ["add", "sub"]
    assert sandbox.run("def add(a, b): return a + b\ndef sub(a, b): return a - b", tests).kind == "passed"
    assert sandbox.run("def add(a, b): return a + b\ndef sub(a, b): return a", tests).kind == "failed"
    assert sandbox.run("def add(a, b): return a + b", tests).kind == "load"


@pytest.mark.parametrize(
    "gold",
    [
        json.dumps({"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]}),
        json.dumps([{"input": "1\n", "output": "2\n"}, {"input": "2\n", "output": "4\n"}]),
    ],
)
def test_inputs_and_outputs(gold: str) -> None:
    assert read_tests(gold, "") == ScriptTests((Case("1\n", "2\n"), Case("2\n", "4\n")))


UNREADABLE = {
    "no tests": "42",
    "prose": "the answer is right if it works",
    "an empty list": "[]",
    "an empty object": "{}",
    "uneven": json.dumps({"inputs": ["1"], "outputs": []}),
    "arguments instead of text": json.dumps({"inputs": [[1, 2]], "outputs": [[3]]}),
    "a named function with arguments": json.dumps({"fn_name": "f", "inputs": [[1]], "outputs": [1]}),
    "nothing is called": "assert 1 == 1",
    "check of nothing": "def check(candidate):\n    assert candidate(1)",
    "a class of the program": "assert max_chain_length([Pair(5, 24), Pair(1, 2)], 2) == 1",
    "an object of the program": "root = Node(1)\nroot.left = Node(2)\nassert depth(root) == 2",
    "brackets": "[" * 100_000,
    # LeetCode's class, in the forms of LiveCodeBench, LeetCodeDataset and APPS: the method's object stays in the box.
    "a method": "assert Solution().add(1, 2) == 3",
    "a method in a list": json.dumps(["assert Solution().add(1, 2) == 3", "assert Solution().add(0, 2) == 2"]),
    "a method through a variable": "s = Solution()\nassert s.add(1, 2) == 3",
    "a method through an annotated variable": "s: object = Solution()\nassert s.add(1, 2) == 3",
    "a method through a walrus": "assert (s := Solution()).add(1, 2) == 3",
    "a method in a check": "def check(f):\n    assert f(1) == 2\ndef make():\n    return Solution()\ncheck(make().add)",
    "a context": "with Stack() as s:\n    assert s.pop() is None",
    "an attribute of no plain value": "assert Node(1).left is None",
    "an entry point that is a method": json.dumps(
        {"test": "def check(candidate):\n    assert candidate(1, 2) == 3", "entry_point": "Solution().add"}
    ),
    "functional tests": json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}]),
    "some functional tests": json.dumps(
        [{"input": "1", "output": "3", "testtype": "stdin"}, {"input": "1", "output": "3", "testtype": "functional"}]
    ),
    "a function of LiveCodeBench": json.dumps({"func_name": "add", "inputs": ["1"], "outputs": ["2"]}),
}


@pytest.mark.parametrize("gold", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_gold_is_an_error(gold: str) -> None:
    with pytest.raises(InputError, match=r"^the gold answer can\S* be (read|used) as tests: "):
        read_tests(gold, "Write a program.")


def test_function_with_a_class_like_name_is_accepted() -> None:
    tests = read_tests("assert Extract([[1, 2]]) == [1]\nassert set(Split([1])) == {1}", "")
    assert isinstance(tests, CallTests)
    assert sorted(tests.names) == ["Extract", "Split"]
    # A near miss: attributes of a plain value.
    assert isinstance(read_tests("assert Reverse('ab').upper() == 'BA'", ""), CallTests)
    with pytest.raises(InputError, match="objects of the program's class Reverse"):
        read_tests("assert Reverse('ab').upper() == 'BA'", "Write a class `Reverse` with the method upper.")


def test_stdin_tests_of_livecodebench_are_read() -> None:
    gold = json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}])
    assert read_tests(gold, "") == ScriptTests((Case("1\n", "2\n"),))


PROGRAMS = {
    "a body": "    return 2 * sum(xs)\n",
    "a body without its indentation": "return 2 * sum(xs)",
    "a body whose first line lost it": "s = sum(xs)\n    return 2 * s",
    "a function": "def twice(xs):\n    return 2 * sum(xs)\n",
    "a function that uses the query's import": "def twice(xs: List[int]) -> int:\n    return 2 * sum(xs)\n",
    "a block": "```python\ndef twice(xs):\n    return 2 * sum(xs)\n```",
    "a lambda": "twice = lambda xs: 2 * sum(xs)",
    "from the future": "from __future__ import annotations\ndef twice(xs: list[int]) -> int:\n    return 2 * sum(xs)\n",
}


@pytest.mark.parametrize("answer", PROGRAMS.values(), ids=PROGRAMS.keys())
@pytest.mark.parametrize(
    "query", [PROMPT, f"Complete this.\n\n```python\n{PROMPT}```\n", f"Complete this:\n\n{PROMPT}"]
)
def test_answer_is_a_program_or_a_body(sandbox: Sandbox, answer: str, query: str) -> None:
    prompt = read_prompt(query)
    assert prompt.entry == "twice"
    assert sandbox.run(program_of(answer, prompt), read_tests(CHECK, query)).kind == "passed"


def test_tests_use_the_helper_of_the_query(sandbox: Sandbox) -> None:
    """A program cannot change the tests by redefining the helper."""
    cheating = "def half(x): return 3\ndef twice(xs): return 6 if xs == [1, 2] else 0\n"
    tests = read_tests(CHECK.replace("== 3", "== 4"), PROMPT)
    assert sandbox.run(program_of(cheating, read_prompt(PROMPT)), tests).kind == "failed"
