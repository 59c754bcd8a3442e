"""docs/explain.md and docs/models.md match the command line and the constants of the code."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from memstore_cli.main import app
from memstore_gnn.evaluation.promote import CALIBRATED, LEAST
from memstore_gnn.explain.families import PREFIXES
from memstore_gnn.explain.influences import KINDS
from memstore_gnn.features.labels import NEIGHBOURS
from memstore_gnn.monitoring.drift import DRIFT
from memstore_gnn.scoring.abstain import RISK

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("explain.md", "models.md")}
COMMANDS = [
    (page, words)
    for page, text in PAGES.items()
    for words in re.findall(r"^```console\n\$ memstore (.*)\n", text, re.MULTILINE)
]


def test_pages_have_commands() -> None:
    assert {page for page, _ in COMMANDS} == set(PAGES)


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: str(value)[:40])
def test_command_of_a_page_parses(page: str, words: str) -> None:
    verb, *options = shlex.split(words)
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    command.make_context(verb, options)
    assert re.search(rf"\$ memstore {re.escape(words)}\n(?!```)", PAGES[page]), "run docs/make_pages.py"


def test_imports_of_the_python_example_exist() -> None:
    (source,) = re.findall(r"```python\n(.*?)```", PAGES["explain.md"], re.DOTALL)
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == 3
    for node in imports:
        module = importlib.import_module(str(node.module))
        assert all(hasattr(module, name.name) for name in node.names)


def test_figures_equal_the_constants_of_the_code() -> None:
    words = " ".join(PAGES["models.md"].split())
    assert (
        f"more than {DRIFT.min_shift:g} standard deviations off, and more than {DRIFT.min_errors:g} standard errors"
        in words
    )
    assert f"with fewer than {LEAST} fresh queries (`--least`)" in words
    assert f"a calibration error above {CALIBRATED:g}" in words
    assert f"`--risk` ({RISK:g})" in (DOCS / "commands.md").read_text(encoding="utf-8")
    assert f"the {NEIGHBOURS} nearest labelled queries and rollouts" in " ".join(PAGES["explain.md"].split())


def test_table_explains_every_kind_of_influence() -> None:
    kinds, families = PAGES["explain.md"].split("| what |")[1].split("The families of features:")
    for kind in KINDS:
        assert f"| `{kind}" in kinds
    for family in PREFIXES:
        assert f"`{family}`" in families
