"""Reads the tests in a gold answer for code, in the formats of common data sets.

    Python that defines check(candidate)                            HumanEval, EvalPlus
    {"test": such Python, "entry_point": name}
    Python that calls the program's functions by name               MBPP
    ["assert f(1) == 2", ...]
    {"test_list": [...], "test_setup_code" or "test_imports": ...}
    {"inputs": [text, ...], "outputs": [text, ...]}                 programs that read and print
    [{"input": text, "output": text}, ...]

The function under test is the one named by the tests, else the last one in the query.
"""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from memstore.errors import InputError
from memstore_rl.sandbox.prompt import Prompt, parsed, read_prompt

_CHECK = "check"
_STDIN = "stdin"
"""LiveCodeBench's `testtype` of programs that read and print."""
_METHOD_KEYS = ("fn_name", "func_name", "method_name")
"""Keys of tests that call a method of a class (APPS, LiveCodeBench)."""
_PREDEFINED = frozenset(dir(builtins)) | {"candidate", "__name__"}
_PLAIN_ATTRIBUTES = frozenset(name for plain in (str, list, dict, set, tuple, int, float) for name in dir(plain))
_PARSE_LIMIT = 20_000_000


@dataclass(frozen=True, slots=True)
class CallTests:
    """Tests that call the program's functions."""

    names: tuple[str, ...]
    """Functions under test; `candidate` in the tests is the last one."""
    tests: str
    prelude: str = ""
    """Code of the query before the function, which the tests may use."""
    call: str | None = None
    """Test function to call with the program's function at the end; None: there is none."""


class Case(NamedTuple):
    """One run of a script."""

    given: str
    expected: str


@dataclass(frozen=True, slots=True)
class ScriptTests:
    """Tests that compare what the program prints."""

    cases: tuple[Case, ...]


Tests: TypeAlias = CallTests | ScriptTests


def read_tests(gold: str, query: str) -> Tests:
    """Read the tests of a gold answer.

    Raises:
        InputError: it has none of the formats, or needs objects of the program's own classes.
    """
    prompt = read_prompt(query)
    try:
        form = json.loads(gold)
    except (ValueError, RecursionError):
        return _from_source(gold, prompt, entry=None)
    if isinstance(form, list):
        return _from_list(form, prompt)
    if isinstance(form, dict):
        return _from_object(form, prompt)
    raise _unreadable("it is neither Python nor a list or object of tests")


def _from_list(form: list[Any], prompt: Prompt, setup: str = "") -> Tests:
    if form and all(isinstance(line, str) for line in form):
        return _from_source("\n".join([setup, *form]), prompt, entry=None)
    if form and all(isinstance(case, dict) for case in form):
        kinds = {case.get("testtype", _STDIN) for case in form}
        if kinds != {_STDIN}:
            raise _unreadable("tests of `testtype` functional call methods of a class; write them as assertions")
        return _from_cases([case.get("input") for case in form], [case.get("output") for case in form])
    raise _unreadable("the list is empty, or holds neither assertions nor pairs of input and output")


def _from_object(form: dict[str, Any], prompt: Prompt) -> Tests:
    for key in _METHOD_KEYS:
        if form.get(key):
            raise _unreadable(f"tests with `{key}` are not supported; write them as assertions")
    if isinstance(form.get("inputs"), list) and isinstance(form.get("outputs"), list):
        return _from_cases(form["inputs"], form["outputs"])
    if isinstance(form.get("test_list"), list):
        setup = form.get("test_setup_code") or form.get("test_imports") or ""
        return _from_list(form["test_list"], prompt, "\n".join(setup) if isinstance(setup, list) else str(setup))
    if isinstance(form.get("test"), str):
        return _from_source(form["test"], prompt, entry=form.get("entry_point"))
    raise _unreadable("it has none of the keys `test`, `test_list`, `inputs` with `outputs`")


def _from_cases(inputs: list[Any], outputs: list[Any]) -> ScriptTests:
    texts = [*inputs, *outputs]
    if not inputs or len(inputs) != len(outputs) or not all(isinstance(text, str) for text in texts):
        raise _unreadable("inputs and outputs must be texts, equal in number")
    return ScriptTests(tuple(map(Case, inputs, outputs)))


def _from_source(source: str, prompt: Prompt, entry: object) -> CallTests:
    tree = parsed(source, _PARSE_LIMIT)
    if tree is None:
        raise _unreadable("it does not parse as Python")
    if not any(isinstance(node, ast.FunctionDef) and node.name == _CHECK for node in tree.body):
        names = _called_functions(tree, prompt) or _only(entry)
        if not names:
            raise _unreadable("it calls no function that a program could define")
        return CallTests(names, source, prompt.prelude)
    called_with = _argument_of_check(tree)
    name = entry if isinstance(entry, str) else called_with or prompt.entry
    if name is not None and not name.isidentifier():
        raise _unreadable(f"{name[:60]!r} is not the name of a function; tests cannot create the program's objects")
    if name is None:
        raise _unreadable("neither the tests nor the query name the function to pass to check")
    return CallTests((name,), source, prompt.prelude, None if called_with else _CHECK)


def _argument_of_check(tree: ast.Module) -> str | None:
    """Return the function that the tests themselves pass to check."""
    for node in tree.body:
        match node:
            case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=[ast.Name(id=entry)])) if name == _CHECK:
                return entry
    return None


def _called_functions(tree: ast.Module, prompt: Prompt) -> tuple[str, ...]:
    """Return the functions that the tests call and do not define, in order of appearance."""
    prelude = parsed(prompt.prelude)
    known = _PREDEFINED | _bound(tree) | (_bound(prelude) if prelude else set())
    names = dict.fromkeys(name for node in ast.walk(tree) if (name := _callee(node)) and name not in known)
    for name in names:
        if name in prompt.classes or (name[:1].isupper() and _makes_objects(tree, name, names)):
            raise InputError(
                f"the gold answer cannot be used as tests: they create objects of the program's class {name}"
            )
    return tuple(names)


def _callee(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name
    return None


def _makes_objects(tree: ast.Module, name: str, names: Container[str]) -> bool:
    """Whether the result of `name` is kept, used by attribute, or passed to another function of the program.

    For a name like a class's, the result is then an object, which cannot leave the program's process.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Assign() | ast.AnnAssign() | ast.NamedExpr() | ast.Return():
                if node.value is not None and _callee(node.value) == name:
                    return True
            case ast.Attribute(value=ast.Call() as made, attr=attribute) if _callee(made) == name:
                # `Solution().add` makes an object; `Reverse("ab").upper` may as well be a function that returns a text.
                if (not made.args and not made.keywords) or attribute not in _PLAIN_ATTRIBUTES:
                    return True
            case ast.withitem(context_expr=made) if _callee(made) == name:
                return True
            case ast.Call() if _callee(node) in names:
                given = (inner for argument in node.args for inner in ast.walk(argument))
                if any(_callee(inner) == name for inner in given):
                    return True
    return False


def _bound(tree: ast.AST) -> set[str]:
    """Return every name that is bound anywhere in a tree."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                names.add(name)
            case ast.alias():
                names.add(node.asname or node.name.partition(".")[0])
    return names


def _only(entry: object) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else ()


def _unreadable(why: str) -> InputError:
    return InputError(f"the gold answer cannot be read as tests: {why}")
