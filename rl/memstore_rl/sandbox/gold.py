"""What a gold answer for code says, in the forms that data sets have.

    Python that defines check(candidate)                            HumanEval, EvalPlus
    {"test": such Python, "entry_point": name}
    Python that calls the program's functions by their names        MBPP
    ["assert f(1) == 2", ...]
    {"test_list": [...], "test_setup_code" or "test_imports": ...}
    {"inputs": [text, ...], "outputs": [text, ...]}                 programs that read and print
    [{"input": text, "output": text}, ...]

The function under test is the one that the tests name, else the last one that the query shows.
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
_GIVEN = frozenset(dir(builtins)) | {"candidate", "__name__"}
_PARSE_LIMIT = 20_000_000


@dataclass(frozen=True, slots=True)
class CallTests:
    """Tests that call the program's functions."""

    names: tuple[str, ...]
    """The functions; `candidate` in the tests is the last one."""
    tests: str
    prelude: str = ""
    """What the query shows before the function: the tests may use it."""
    call: str | None = None
    """Function of the tests that is called with the program's at the end."""


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
    """The tests that a gold answer holds.

    Raises:
        InputError: it is none of the forms, or needs objects of the program's own classes.
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
        return _from_cases([case.get("input") for case in form], [case.get("output") for case in form])
    raise _unreadable("its list is empty, or holds neither assertions nor pairs of input and output")


def _from_object(form: dict[str, Any], prompt: Prompt) -> Tests:
    if "fn_name" in form:
        raise _unreadable("tests that name a function in `fn_name` are not read; write them as assertions")
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
        raise _unreadable("inputs and outputs have to be texts, as many of the one as of the other")
    return ScriptTests(tuple(map(Case, inputs, outputs)))


def _from_source(source: str, prompt: Prompt, entry: object) -> CallTests:
    tree = parsed(source, _PARSE_LIMIT)
    if tree is None:
        raise _unreadable("it does not parse as Python")
    if not any(isinstance(node, ast.FunctionDef) and node.name == _CHECK for node in tree.body):
        names = _called(tree, prompt) or _only(entry)
        if not names:
            raise _unreadable("it calls no function that a program could define")
        return CallTests(names, source, prompt.prelude)
    called_with = _checked(tree)
    name = entry if isinstance(entry, str) else called_with or prompt.entry
    if name is None:
        raise _unreadable("neither the tests nor the query name the function that check is to be called with")
    return CallTests((name,), source, prompt.prelude, None if called_with else _CHECK)


def _checked(tree: ast.Module) -> str | None:
    """The function that the tests themselves call check with."""
    for node in tree.body:
        match node:
            case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=[ast.Name(id=entry)])) if name == _CHECK:
                return entry
    return None


def _called(tree: ast.Module, prompt: Prompt) -> tuple[str, ...]:
    """The functions that the tests call and do not define, in order of appearance."""
    prelude = parsed(prompt.prelude)
    known = _GIVEN | _bound(tree) | (_bound(prelude) if prelude else set())
    names = dict.fromkeys(name for node in ast.walk(tree) if (name := _callee(node)) and name not in known)
    for name in names:
        if name[:1].isupper() and _makes_objects(tree, name, names):
            raise InputError(
                f"the gold answer cannot be used as tests: they make objects of the program's class {name}"
            )
    return tuple(names)


def _callee(node: ast.AST) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name
    return None


def _makes_objects(tree: ast.Module, name: str, names: Container[str]) -> bool:
    """Is what `name` gives kept in a variable, or handed to another function of the program?

    With a name like a class's, it is an object then, which cannot leave the program's process.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _callee(node.value) == name:
            return True
        if isinstance(node, ast.Call) and _callee(node) in names:
            given = (inner for argument in node.args for inner in ast.walk(argument))
            if any(_callee(inner) == name for inner in given):
                return True
    return False


def _bound(tree: ast.AST) -> set[str]:
    """Every name that is given a meaning anywhere in a tree."""
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
