"""Every command in the README and the documentation parses, and `memstore` commands run, in a folder with the demo.

A line that starts with `$ memstore` in a ```console block, or with `memstore` in a ```sh block, is a command. The real
command line parses it, so an unknown option fails here. Then it runs, unless a comment above the block gives the reason
why it cannot:

    <!-- not run: needs a Neo4j server -->

Scripts must exist and mention the options of the command; make's targets must be in the Makefile. The transcript in
docs/demo.md must have the steps, commands and table headers that the demo prints.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from memstore.memory import Memory
from memstore.sample import sample_path
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_cli.main import app, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "docker/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+?) -->\n+)?^```(?P<kind>sh|console)\n(?P<text>.*?)^```", re.M | re.S
)
_MODEL = re.compile(r"\bm-[0-9a-f]{16}\b")
_ID = re.compile(r"\b[qt]-[0-9a-f]{24}\b")
_RUN_ELSEWHERE = ("demo", "inspect", "serve")
"""The fixture runs the demo once. A service, or the pages, run until they are stopped and have their own tests."""
_STEP_OF_THE_DEMO = re.compile(r"^\[\d\] ", re.M)
"""The title of a step in the demo's output."""


class Command(NamedTuple):
    """A command on a page; `why_not` is the reason not to run it."""

    page: Path
    words: list[str]
    why_not: str | None


def commands_of(page: Path) -> Iterator[Command]:
    """The commands of a page, in order."""
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = block["text"].replace("\\\n", " ")
        why = "the demo has run it" if _STEP_OF_THE_DEMO.search(text) else block["why"]
        for line in text.splitlines():
            if block["kind"] == "console":
                if not line.startswith("$ "):
                    continue
                line = line[2:]
            words = shlex.split(line, comments=True)
            if words:
                yield Command(page, words, why)


ALL = [command for page in PAGES for command in commands_of(page)]


def own(command: Command) -> list[str] | None:
    """The arguments of a `memstore` command, without variables before it; None for other programs."""
    words = list(command.words)
    while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        words.pop(0)
    return words[1:] if words and words[0] == "memstore" else None


def is_run(command: Command) -> bool:
    """Whether the test runs this command."""
    arguments = own(command)
    return bool(arguments) and command.why_not is None and arguments[0] not in _RUN_ELSEWHERE


RUN = [page for page in PAGES if any(is_run(command) for command in commands_of(page))]


def test_pages_have_commands() -> None:
    assert len([command for command in ALL if own(command) is not None]) > 30


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_of_a_page_parse(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
            assert name in verb.commands, f"{page.name}: no verb {name!r}"
            verb = verb.commands[name]
            if not hasattr(verb, "commands"):
                verb.make_context(name, until_pipe(rest), parent=context)


def until_pipe(words: list[str]) -> list[str]:
    """The words before a pipe or a redirection."""
    ends = [position for position, word in enumerate(words) if word in ("|", ">", ">>", "<", "&")]
    return words[: ends[0]] if ends else words


def check_program(words: list[str]) -> None:
    """Check that a script exists and mentions its options, and that make's targets are in the Makefile."""
    while re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        words = words[1:]
        if not words:
            return
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(words[1:]) <= {*targets, *(word for word in words if "=" in word)}
    if words[0] in ("python", "python3", "bash", "sh") and len(words) > 1 and not words[1].startswith("-"):
        script = ROOT / words[1]
        assert script.is_file(), f"no script {words[1]}"
        text = script.read_text(encoding="utf-8")
        for option in words[2:]:
            if option.startswith("--"):
                assert option.split("=")[0] in text, f"{words[1]} has no option {option}"


QUERIES = 160
"""First queries of the sample that are in `small_samples`, of 400: embedding all of them takes most of a minute."""


@pytest.fixture(scope="session")
def small_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with memstore/sample: the first queries of the sample and those that commands name, and the new ones."""
    folder = tmp_path_factory.mktemp("docs")
    samples = folder / "memstore" / "sample"
    samples.mkdir(parents=True)
    shutil.copy(sample_path("arithmetic_new"), samples)
    kept, named = set[str](), named_queries(folder / "whole")
    with gzip.open(sample_path(), "rt") as lines, gzip.open(samples / sample_path().name, "wt") as some:
        for line in lines:
            key = json.loads(line)["query_id"]
            if len(kept) < QUERIES or key in named:
                kept.add(key)
            if key in kept:
                some.write(line)
    return folder


def named_queries(folder: Path) -> set[str]:
    """Keys of the sample's queries that a command names by their id or that of a rollout."""
    ids = {name for command in ALL for word in command.words for name in _ID.findall(word)}
    text = (
        "MATCH (d:Dataset)<-[n:IN]-(q:Query)-[:GENERATES]->(t:Thinking) WHERE t.id IN $ids OR q.id IN $ids RETURN n.key"
    )
    with Memory.open(folder, create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([sample_path()])
        return {key for (key,) in memory.cypher(text, {"ids": sorted(ids)}).rows}


@pytest.fixture(scope="session")
def demo_folder(small_samples: Path) -> Path:
    """A folder in which the demo has run on small samples, with its output in transcript.txt."""
    folder, printed = small_samples, io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(printed):
        patched.chdir(folder)
        patched.setattr("memstore.sample.sample_path", lambda name: folder / "memstore" / "sample" / f"{name}.jsonl.gz")
        assert run(["demo", "--folder", "demo-memory"]) == 0
    (folder / "transcript.txt").write_text(printed.getvalue(), encoding="utf-8")
    return folder


def outline(transcript: str) -> list[str]:
    """Steps, commands, comments and table headers of a transcript, with machine-dependent ids and widths removed."""
    lines = [line.rstrip() for line in transcript.splitlines()]
    kept = [line for line in lines if re.match(r"\[\d+\] |\$ |# |memstore ", line)]
    headers = [line for line, rule in itertools.pairwise(lines) if rule.startswith("───")]
    words = re.sub(r"\bt-[0-9a-f]{24}\b", "ID", "\n".join([*kept, *headers])).replace(f"{ROOT}/", "")
    return [" ".join(line.split()) for line in words.splitlines()]


@pytest.mark.slow
def test_transcript_of_the_demo_is_current(demo_folder: Path) -> None:
    page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    transcript = re.search(r"^```console\n\$ memstore demo\n(.*?)^```", page, re.M | re.S)
    assert transcript is not None
    assert outline(transcript[1]) == outline((demo_folder / "transcript.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rollouts.jsonl and my-memory, a memory of these few rollouts."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "rollouts.jsonl").write_bytes(gzip.decompress(sample_path("arithmetic_new").read_bytes()))
    assert run(["ingest", str(folder / "rollouts.jsonl"), "--memory", str(folder / "my-memory")]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=[str(page.relative_to(ROOT)) for page in RUN])
def test_commands_of_a_page_run(
    page: Path,
    demo_folder: Path,
    small_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = [command for command in commands_of(page) if is_run(command)]
    shutil.copytree(demo_folder / "demo-memory", tmp_path / "demo-memory")
    shutil.copytree(small_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "memstore").symlink_to(demo_folder / "memstore")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    [model] = [path.name for path in (tmp_path / "demo-memory" / "models").iterdir() if path.is_dir()]
    for command in wanted:
        arguments = [_MODEL.sub(model, word) for word in until_pipe(own(command) or [])]
        code = run(arguments)
        printed = capsys.readouterr()
        assert code == 0, f"memstore {shlex.join(arguments)}\n{printed.err}"
