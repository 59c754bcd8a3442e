"""Fill the pages of the documentation with generated text; the prose is left as it is.

    python docs/make_pages.py

- A fenced block of kind `console` that begins with `$ memstore ...` gets the output of that command, unless a comment
  above it says why it is not run.
- A fenced block of kind `cypher` gets the text of the named query that the heading above it names.
- The comments `settings` and `schema` enclose tables that are made from the classes.
- The comments `demo` enclose the steps of the demo that the README repeats from docs/demo.md.

The commands run in one temporary folder, page by page, so that each sees what earlier ones have made. The demo comes
first: the other pages use its memory. On two idle cores all of it takes a few minutes.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memstore.locations.settings import Settings
from memstore_schema.columns import EDGE_COLUMNS, EDGE_ENDS, NODE_COLUMNS
from memstore_schema.queries import named_queries

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
PAGES = ("demo.md", "commands.md", "explain.md", "models.md", "queries.md", "settings.md", "schema.md")
COLUMNS = 110
NOT_RUN = ("serve ", "rollout ")
"""Commands that run until they are stopped, or need a server. The text below them is kept."""
DEMO_STEPS = (4, 5, 6)
"""Steps of the demo that the README shows."""
CONSOLE = re.compile(r"(?<!-->\n)^```console\n\$ memstore (.*)\n(?:.*\n)*?```$", re.MULTILINE)
WORDS = {"string": "text", "integer": "whole number", "number": "number"}
MARKED = re.compile(r"<!-- (settings|schema|demo) -->\n(?:.*\n)*?<!-- /\1 -->")
QUERY = re.compile(r"^(## (\S+)\n(?:(?!## ).*\n)*?)```cypher\n(?:.*\n)*?```$", re.MULTILINE)


def main() -> None:
    """Rewrite the pages and the README in place."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "memstore").symlink_to(DOCS.parent / "memstore")
        (here / "memstore.toml").write_text('[profiles.demo]\nmemory = "demo-memory"\n', encoding="utf-8")
        for name in PAGES:
            page = DOCS / name
            found = CONSOLE.findall(page.read_text(encoding="utf-8"))
            commands = [words for words in found if not words.startswith(NOT_RUN)]
            outputs = {words: output_of(words, here) for words in commands}
            # The page is read again, since it may have been edited while the commands ran.
            page.write_text(fill_page(page.read_text(encoding="utf-8"), outputs), encoding="utf-8")
    README.write_text(fill_page(README.read_text(encoding="utf-8"), {}), encoding="utf-8")


def fill_page(text: str, outputs: Mapping[str, str]) -> str:
    """Fill the blocks of a page. A command that is not among `outputs` keeps its old output."""
    texts = {query.name: query.text.strip() for query in named_queries()}
    makers = {"settings": settings_table, "schema": schema_table, "demo": demo_excerpt}
    text = MARKED.sub(lambda found: f"<!-- {found[1]} -->\n{makers[found[1]]()}<!-- /{found[1]} -->", text)
    text = QUERY.sub(lambda found: f"{found[1]}```cypher\n{texts[found[2]]}\n```", text)

    def console(found: re.Match[str]) -> str:
        return f"```console\n$ memstore {found[1]}\n{outputs[found[1]]}```" if found[1] in outputs else found[0]

    return CONSOLE.sub(console, text)


def demo_excerpt() -> str:
    """The steps `DEMO_STEPS` of the transcript in docs/demo.md, as one fenced block."""
    found = CONSOLE.search((DOCS / "demo.md").read_text(encoding="utf-8"))
    assert found is not None
    steps = re.findall(r"^\[\d+\] .*\n(?:(?!\[\d+\] |That took ).*\n)*", found[0], re.MULTILINE)
    return "```console\n" + "\n".join(steps[number - 1].strip() + "\n" for number in DEMO_STEPS) + "```\n"


def schema_table() -> str:
    """The properties of every label and relation, with their Arrow types."""
    rows = ["| node | properties |", "|---|---|"]
    rows += [f"| {label} | {_properties(columns)} |" for label, columns in NODE_COLUMNS.items()]
    rows += ["", "| edge | from, to | properties |", "|---|---|---|"]
    for edge, columns in EDGE_COLUMNS.items():
        ends = ", ".join(f"{source} → {target}" for source, target in EDGE_ENDS[edge])
        rows.append(f"| {edge} | {ends} | {_properties(columns)} |")
    return "\n".join(rows) + "\n"


def _properties(columns: Mapping[str, Any]) -> str:
    words = {"timestamp[us, tz=UTC]": "time", "double": "float64", "float": "float32"}
    return ", ".join(f"`{name}` {words.get(str(kind), kind)}" for name, kind in columns.items())


def settings_table() -> str:
    """Every setting: its variable, its values, its default and its description."""
    rows = ["| variable | value | default | what it is |", "|---|---|---|---|"]
    for name, schema in Settings.model_json_schema()["properties"].items():
        default = "" if schema.get("default") is None else f"`{schema['default']}`"
        words = " ".join(str(schema["description"]).split())
        rows.append(f"| `MEMSTORE_{name.upper()}` | {_allowed(schema)} | {default} | {words} |")
    return "\n".join(rows) + "\n"


def _allowed(schema: dict[str, Any]) -> str:
    """Describe the values of a setting, from its JSON schema."""
    (kind,) = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    words = {"password": "secret", "path": "path"}.get(kind.get("format", ""), WORDS[kind["type"]])
    limits = [f"{word} {kind[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in kind]
    return " ".join([words, *limits])


def output_of(words: str, folder: Path) -> str:
    """Run a command and return what it prints, with paths relative to the project or the folder.

    Raises:
        SystemExit: the command failed. The page is not changed.
    """
    program = str(Path(sys.executable).with_name("memstore"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MEMSTORE_")}
    done = subprocess.run(
        [program, *shlex.split(words)],
        cwd=folder,
        env=environment | {"COLUMNS": str(COLUMNS)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"memstore {words}: exit code {done.returncode}\n{done.stderr}")
    shown = done.stdout.replace(f"{DOCS.parent}/", "").replace(f"{folder}/", "")
    return "".join(f"{line.rstrip()}\n" for line in shown.strip("\n").splitlines())


if __name__ == "__main__":
    main()
