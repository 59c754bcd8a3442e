"""`memstore --help` is fast and complete, and docs/commands.md documents the same verbs and options."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer.main

from memstore_cli.main import app

COMMAND = typer.main.get_command(app)
VERBS: dict[str, Any] = COMMAND.commands  # type: ignore[attr-defined]
HEAVY = ("torch", "pandas", "pyarrow", "numpy", "pymilvus", "ladybug", "pydantic", "transformers")
DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands_of(verb: str) -> list[Any]:
    """The command itself, or the commands of a group."""
    return list(getattr(VERBS[verb], "commands", {verb: VERBS[verb]}).values())


def options_of(verb: str) -> list[Any]:
    parameters = [parameter for command in commands_of(verb) for parameter in command.params]
    return [p for p in parameters if p.param_type_name == "option" and p.name != "help"]


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from memstore_cli.main import run\n"
        "code = run(['--help'])\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'exit code {code}, loaded {heavy}' if code or heavy else 0)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    print(f"memstore --help took {time.perf_counter() - started:.2f} s")
    assert done.returncode == 0, done.stderr
    for verb in VERBS:
        assert verb in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_has_help(verb: str) -> None:
    assert VERBS[verb].help
    for command in commands_of(verb):
        assert command.help, f"{verb} {command.name} has no help"
        for parameter in command.params:
            assert parameter.help, f"{verb}: {parameter.name} has no help"


@pytest.mark.parametrize(
    "verb", sorted(set(VERBS) - {"datasets", "demo", "grade", "hook", "profiles", "reproduce", "rollout"})
)
def test_every_verb_takes_memory_and_json(verb: str) -> None:
    names = {name for option in options_of(verb) for name in option.opts}
    assert {"--memory", "--json"} <= names


@pytest.mark.parametrize("verb", VERBS)
def test_docs_describe_every_verb_with_options_and_example(verb: str) -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {verb}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section, f"docs/commands.md has no section on {verb}"
    assert f"$ memstore {verb}" in section[1], f"no example of {verb}"
    for option in options_of(verb):
        for name in option.opts:
            if name not in ("--memory", "--json"):
                assert f"`{name}" in section[1], f"docs/commands.md does not name {verb} {name}"


def test_docs_describe_no_other_verbs() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## ([a-z]+)$", page, re.MULTILINE)) == set(VERBS)
