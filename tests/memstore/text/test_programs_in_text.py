"""Programs among demos, tests, drafts and words; values as answers in domain code; tests as gold answers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from memstore.text import canonical_answer, infer_domain, split_response
from memstore.text.fences import program_in

SCRIPT = "n = int(input())\nprint(sum(map(int, input().split())))\n"
ADD = "def add(a, b):\n    return a + b\n"


DRAFT = "def total(xs):\n    return 0\n"
UNIT_TEST = """import unittest

class T(unittest.TestCase):
    def test_a(self):
        self.assertEqual(add(1, 2), 3)
"""
TEST_FUNCTION = "def test_add():\n    assert add(1, 2) == 3\n\ntest_add()"
TEST_CLASS = """class TestAdd:
    def test_a(self):
        assert add(1, 2) == 3
"""


def fenced(code: str, language: str = "python") -> str:
    return f"```{language}\n{code.rstrip()}\n```"


PROGRAM, FUNCTION = fenced(SCRIPT), fenced(ADD)
SCRIPT_RESPONSES = {
    "alone": PROGRAM,
    "example call": f"{PROGRAM}\n\nExample:\n{fenced('print(6)')}",
    "sample input and output": f"Program:\n{PROGRAM}\nInput:\n```\n3\n1 2 3\n```\nOutput:\n```\n6\n```",
    "output in words": f"{PROGRAM}\nOutput:\n{fenced('YES', '')}",
    "output of several words": f"{PROGRAM}\nIt prints\n{fenced('Hello world', '')}",
    "shell": f"{PROGRAM}\nRun it:\n{fenced('python x.py < in.txt', 'bash')}",
    "console session": f"{PROGRAM}\nSession:\n```\n>>> main()\n6\n```",
    "draft with a function": f"Draft:\n{fenced(DRAFT)}\nThat does not read. Final program:\n{PROGRAM}",
    "draft without a function": f"Draft:\n{fenced('print(0)')}\nFinal:\n{PROGRAM}",
    "reads input last": f"First:\n{FUNCTION}\nThe solution:\n{PROGRAM}",
    "tilde fences": f"~~~python\n{SCRIPT}~~~",
    "end token": f"{PROGRAM}<|im_end|>",
    "in marks": f"[BEGIN]\n{SCRIPT}[DONE]",
    "no fences": SCRIPT,
}
FUNCTION_RESPONSES = {
    "alone": FUNCTION,
    "test function": f"{FUNCTION}\nTests:\n{fenced(TEST_FUNCTION)}",
    "unittest": f"{FUNCTION}\nUnit tests:\n{fenced(UNIT_TEST)}",
    "pytest class": f"{FUNCTION}\nTests:\n{fenced(TEST_CLASS)}",
    "asserts": f"{FUNCTION}\nChecks:\n{fenced('assert add(1, 2) == 3')}",
    "call": f"{FUNCTION}\nUsage:\n```python\nresult = add(1, 2)\nprint(result)\n```",
    "loop of calls": f"{FUNCTION}\nUsage:\n```python\nfor i in range(3):\n    print(add(i, i))\n```",
    "main guard": f"{FUNCTION}\nTry it:\n```python\nif __name__ == '__main__':\n    print(add(1, 2))\n```",
    "doctest": f"{FUNCTION}\nThen\n```\n>>> add(1, 2)\n3\n```",
    "revised": f"{fenced(ADD.replace('+', '-'))}\nThat subtracts.\n{FUNCTION}",
    "words around": f"Sure! Here is it:\n\n{ADD}\nThis returns the sum.",
    "words in front": f"Here is the function.\n\n{ADD}",
    "words behind": f"{ADD}\nThe function adds its arguments.",
    "sentences with keywords": f"For this task I define a function.\n\n{ADD}\nIf you call it, it returns a sum.",
    "begin and done": f"[BEGIN]\n{ADD}[DONE]",
    "code tags": f"<code>\n{ADD}</code>",
    "a word behind": f"{ADD}\nDone",
    "no opening fence": f"{ADD}```\n\nThis function adds its arguments.",
    "no opening fence, words in front": f"Here is it:\n\n{ADD}```\nIt adds.",
    "no opening fence, and an example": f"{ADD}```\nUse it like this:\n{fenced('print(add(1, 2))')}",
    "no fences, and a session": f"{ADD}\nExample:\n```\n>>> add(1, 2)\n3\n```",
    "end token": f"{ADD}</s>",
    "thinking": f"<think>def add(a, b): return 0?</think>\n{ADD}",
}


@pytest.mark.parametrize("name", SCRIPT_RESPONSES)
def test_a_script_is_found_among_other_blocks(name: str) -> None:
    answer = split_response(SCRIPT_RESPONSES[name], "code").answer
    assert canonical_answer(answer, "code", "Read n numbers; print their sum.").value == SCRIPT.strip()


@pytest.mark.parametrize("name", FUNCTION_RESPONSES)
def test_a_function_is_found_among_tests_and_words(name: str) -> None:
    for query in ("Write a function add.", "def add(a: int, b: int) -> int:\n    '''Add.'''\n"):
        answer = split_response(FUNCTION_RESPONSES[name], "code").answer
        assert canonical_answer(answer, "code", query).value == ADD.strip()
        # A row may give the answer itself, with the words around it.
        if "<think>" not in FUNCTION_RESPONSES[name]:
            assert canonical_answer(FUNCTION_RESPONSES[name], "code", query).value == ADD.strip()


KEPT = [
    "def f():\n    return 1\n\nprint(f())\n",  # a program that parses is kept whole
    "x = 1\nprint(x)\n",
    "import math\n\nLIMIT = 3\n\n@cache\ndef f():\n    return LIMIT\n\nclass A:\n    pass\n",
    'def f():\n    """Text.\n\nNot indented.\n    """\n    return (1,\n2)\n',
    "    return a + b\n",
    "def f():\n    return [\n1,\n2,\n]\n",
    "I cannot do this.",
    "",
]


@pytest.mark.parametrize("text", KEPT)
def test_programs_without_words_are_kept_whole(text: str) -> None:
    assert program_in(text) == text


def test_a_bare_fence_opens_a_program_even_if_one_stands_before_it() -> None:
    response = f"{DRAFT}\nNo, it has to add:\n{fenced(ADD, '')}"
    assert split_response(response, "code").answer == ADD


@pytest.mark.parametrize(
    "response",
    [
        f"{FUNCTION}\n{PROGRAM}",  # the last program, not the last definition
        f"{FUNCTION}\n\nFinal solution:\n```python\nx = 5\nprint(x * 2)\n```",
    ],
)
def test_the_last_program_wins(response: str) -> None:
    assert "def add" not in split_response(response, "code").answer


SIGNATURE = "def f(a):\n    return sorted(a)[::-1]\nassert f([3, 1, 2]) == ??"
VALUES = {
    "[3, 2, 1]": [
        "[3,2,1]",
        "[ 3, 2, 1 ]",
        "```python\n[3, 2, 1]\n```",
        "[3, 2, 1]\n",
        "assert f([3, 1, 2]) == [3, 2, 1]",
    ],
    "'abc'": ['"abc"', "'''abc'''", '"a" "bc"'],
    "{'a': 1, 'b': 2}": ['{"b": 2, "a": 1}', "{'a':1,'b':2}"],
    "{1, 2}": ["{2, 1}", "{1,2,1}"],
    "{'x', 'y'}": ["{'y', 'x'}"],
    "-5": ["- 5", "(-5)"],
    "1.5": ["1.50", "(1.5)"],
    "(1, 'a')": ["(1,'a')", "1, 'a'"],
    "[(1, 'a'), None, True]": ["[(1,'a'),None,True]"],
    "set()": ["set( )"],
    "''": ['""'],
}


@pytest.mark.parametrize("value", VALUES)
def test_values_are_equal_in_every_spelling(value: str) -> None:
    for answer in (value, *VALUES[value]):
        assert canonical_answer(answer, "code", SIGNATURE).value == value


DIFFERENT_VALUES = [
    "'abc'", "'ab'", "abc", "'ABC'", "''", "' '", "[3, 2, 1]", "[1, 2, 3]", "(3, 2, 1)", "{3, 2, 1}", "'[3, 2, 1]'",
    "3", "3.0",
    "'3'", "True", "None", "[]", "{}", "()", "set()", "[[3, 2, 1]]", "[3, 2]", "-3", "b'abc'", "3j", "n * 2",
    "[3, 2, 1][0]",
    "[None]", "['']", "{'a': 1}", "{'a': '1'}", "{'a', 1}", "f(a)", "abc[0]", "..." , "(1,)",
]  # fmt: skip


def test_different_values_stay_different() -> None:
    found = {canonical_answer(answer, "code", SIGNATURE).value for answer in DIFFERENT_VALUES}
    assert len(found) == len(DIFFERENT_VALUES)


@pytest.mark.parametrize(
    "body", ["    return 1", "    pass", '    """Text."""', "    print(a)", "    yield a", "    a.sort()"]
)
def test_a_body_is_still_put_under_the_signature(body: str) -> None:
    assert canonical_answer(body, "code", "def f(a):\n").value.startswith("def f(a):\n")


CASES = {"inputs": ["3\n1 2 3\n", "2\n5 5\n"], "outputs": ["6\n", "10\n"]}
CODE_GOLDS = [
    json.dumps(CASES), json.dumps(CASES, indent=2), json.dumps({**CASES, "fn_name": "f"}),
    json.dumps({"input_output": CASES}), json.dumps([{"input": "1", "output": "3\n"}]),
    json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}]),
    json.dumps({"test_list": ["assert add(1,2)==3"]}), json.dumps(["assert f(1) == 2", "assert f(2) == 3"]),
    json.dumps({"test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "f"}),
    json.dumps({"tests": ["assert add(1,2)==3"]}), "assert f(1) == 2",
    "def check(candidate):\n    assert candidate(1)",
    "def f(x):\n    return x",
]  # fmt: skip
OTHER_GOLDS = [
    ("12", "math"), ("\\frac{1}{2}", "math"), ("[1, 2]", "other"), ('{"a": 1}', "other"), ("[\\frac12, 3]", "math"),
    ("{1, 2, 3}", "other"), ('{"answer": "\\\\frac{1}{2}"}', "math"), ("$x$", "math"), ("Paris", "other"), ("[",
    "other"),
    ("{" * 5_000, "other"), ("#### 12", "math"), ("define x", "other"),
]  # fmt: skip


@pytest.mark.parametrize("gold", CODE_GOLDS)
def test_tests_as_gold_make_a_query_code(gold: str) -> None:
    assert infer_domain("Read n and n numbers; print their sum.", gold) == "code"
    assert infer_domain("Which?\n(A) x\n(B) y\nWrite it.", gold) == "code"


@pytest.mark.parametrize(("gold", "domain"), OTHER_GOLDS)
def test_other_golds_do_not(gold: str, domain: str) -> None:
    assert infer_domain("How many are there?", gold) == domain


POISON = {
    "terms": "def f(x):\n    return " + "+".join(["x"] * 400),
    "many terms": "def f(x):\n    return " + "+".join(["1"] * 5_000),
    "calls": "def f(x):\n    return x" + "()" * 400,
    "calls at the margin": "x" + "()" * 3_000,
    "signs": "def f(x):\n    return " + "-" * 500 + "1",
    "many signs": "-" * 20_000 + "1",
    "hexadecimal": "def f(x):\n    return 0x" + "F" * 4_000,
    "hexadecimal alone": "0x" + "F" * 4_500,
    "digits": "9" * 5_000,
    "nested lists": "[" * 90 + "]" * 90,
    "nested sets": "{" * 90 + "1" + "}" * 90,
    "attributes": "def f(x):\n    return x" + ".a" * 400,
    "nots": "def f(x):\n    return " + "not " * 4_900 + "1",
    "lambdas": "def f(x):\n    return " + "lambda:" * 2_800 + "1",
    "conditions": "def f(x):\n    return " + "1 if x else " * 1_500 + "1",
    "powers": "def f(x):\n    return " + "2**" * 5_000 + "1",
    "branches": "def f(x):\n    if x==0:\n        return 0\n"
    + "".join(f"    elif x=={i}:\n        return {i}\n" for i in range(330)),
    "decorators": "@a\n" * 5_000 + "def f(x): pass",
    "surrogate": "def f(x):\n    return '\ud800'",
    "nul": "def f(x):\n    return '\0'",
    "annotation": "def f(x: " + "-" * 500 + "1):\n    return x",
    "fences": "```python\n" + "x = (\n" * 3_000 + "```",
    "big power": "2 ** 2 ** 2 ** 2 ** 2 ** 2",
    "escapes": "'" + "\\N{DIGIT ONE}" * 1_000 + "'",
}  # fmt: skip


@pytest.mark.parametrize("name", POISON)
def test_programs_that_break_parsers_have_a_value(name: str) -> None:
    text = POISON[name]
    for query in ("", "def f(x):\n    '''Text.'''\n", text):
        split = split_response(text, "code")
        value = canonical_answer(split.answer, "code", query).value
        assert value
        assert canonical_answer(split.answer, "code", query).value == value
    infer_domain(text, text)


def test_values_do_not_depend_on_the_hash_seed() -> None:
    answers = [*DIFFERENT_VALUES, "{'b', 'a', 'c'}", "{'z': {'y', 'x'}, 'a': 1}", ADD, SCRIPT]
    code = (
        "import sys, json\nfrom memstore.text import canonical_answer\n"
        f"print([canonical_answer(a, 'code', {SIGNATURE!r}).value for a in json.loads(sys.argv[1])])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(answers)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}, check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(printed) == 1
