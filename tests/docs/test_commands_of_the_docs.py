"""Every command that README and docs show: `memstore` lines run, in order, in a folder where the demo has run.

A line that starts with `$ memstore` in a ```console block, or with `memstore` in a ```sh block, is a command. It is
parsed by the real command line, so that an option that there is not fails here, and then run, unless the block stands
under a mark that says why it is not:

    <!-- not run: needs a Neo4j server -->

Scripts that are called must be there and know the options; make's targets must be in the Makefile.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from memstore_cli.main import app, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("README.md", "docs/**/*.md", "docker/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+?) -->\n+)?^```(?P<kind>sh|console)\n(?P<text>.*?)^```", re.M | re.S
)
_MODEL = re.compile(r"\bm-[0-9a-f]{16}\b")
_RUN_ELSEWHERE = ("demo", "serve")
"""The demo is run once, by the fixture; a service does not end by itself and has tests of its own."""


class Command(NamedTuple):
    """One command of a page."""

    page: Path
    words: list[str]
    why_not: str | None


def commands_of(page: Path) -> Iterator[Command]:
    """The commands of a page, in their order."""
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = block["text"].replace("\\\n", " ")
        for line in text.splitlines():
            if block["kind"] == "console":
                if not line.startswith("$ "):
                    continue
                line = line[2:]
            words = shlex.split(line, comments=True)
            if words:
                yield Command(page, words, block["why"])


ALL = [command for page in PAGES for command in commands_of(page)]


def own(command: Command) -> list[str] | None:
    """The arguments of a `memstore` command, settings in front taken off; None for other programs."""
    words = list(command.words)
    while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        words.pop(0)
    return words[1:] if words and words[0] == "memstore" else None


def is_run(command: Command) -> bool:
    """Is it run here?"""
    arguments = own(command)
    return bool(arguments) and command.why_not is None and arguments[0] not in _RUN_ELSEWHERE


RUN = [page for page in PAGES if any(is_run(command) for command in commands_of(page))]


def test_there_are_commands() -> None:
    assert len([command for command in ALL if own(command) is not None]) > 30


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_command_line_knows_every_option(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSTORE_MEMORY", "somewhere")
    group = typer.main.get_command(app)
    for command in commands_of(page):
        arguments = own(command)
        if arguments is None:
            check_program(command.words)
            continue
        context, verb = typer.Context(group, info_name="memstore"), group
        rest = list(arguments)
        while hasattr(verb, "commands") and rest and not rest[0].startswith("-"):
            name = rest.pop(0)
            assert name in verb.commands, f"{page.name}: there is no verb {name!r}"
            verb = verb.commands[name]
            if not hasattr(verb, "commands"):
                verb.make_context(name, until_pipe(rest), parent=context)


def until_pipe(words: list[str]) -> list[str]:
    """The words before a pipe or a redirection."""
    ends = [place for place, word in enumerate(words) if word in ("|", ">", ">>", "<", "&")]
    return words[: ends[0]] if ends else words


def check_program(words: list[str]) -> None:
    """Scripts are there and know their options; make's targets are targets."""
    while re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        words = words[1:]
        if not words:
            return
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(words[1:]) <= {*targets, *(word for word in words if "=" in word)}
    if words[0] in ("python", "python3", "bash", "sh") and len(words) > 1 and not words[1].startswith("-"):
        script = ROOT / words[1]
        assert script.is_file(), f"there is no {words[1]}"
        text = script.read_text(encoding="utf-8")
        for option in words[2:]:
            if option.startswith("--"):
                assert option.split("=")[0] in text, f"{words[1]} does not know {option}"


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the demo has run."""
    folder = tmp_path_factory.mktemp("docs")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run(["demo", "--folder", "demo-memory"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=[str(page.relative_to(ROOT)) for page in RUN])
def test_the_commands_of_a_page_run(
    page: Path, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [command for command in commands_of(page) if is_run(command)]
    for name in ("demo-memory", "my-memory"):
        shutil.copytree(demo_folder / "demo-memory", tmp_path / name)
    (tmp_path / "memstore").symlink_to(ROOT / "memstore")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    sample = ROOT / "memstore" / "sample" / "arithmetic_new.jsonl.gz"
    (tmp_path / "rollouts.jsonl").write_bytes(gzip.decompress(sample.read_bytes()))
    monkeypatch.chdir(tmp_path)
    [model] = [path.name for path in (tmp_path / "demo-memory" / "models").iterdir() if path.is_dir()]
    for command in wanted:
        arguments = [_MODEL.sub(model, word) for word in until_pipe(own(command) or [])]
        code = run(arguments)
        printed = capsys.readouterr()
        assert code == 0, f"memstore {shlex.join(arguments)}\n{printed.err}"
