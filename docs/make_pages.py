"""Fill the pages with what the command really prints.

    python docs/make_pages.py

In each page, a fenced block of kind `console` that begins with `$ memstore ...` gets the output of that command, and a
block of kind `cypher` below a heading gets the text of the named query of that name. Between the comments `settings`
stands the table of all settings, made from the class. The commands run one after the
other, page by page, in a folder of their own, so a later one sees what an earlier one made. The prose is left as it is.
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
from memstore_schema.queries import named_queries

DOCS = Path(__file__).resolve().parent
PAGES = ("commands.md", "explain.md", "models.md", "queries.md", "settings.md")
COLUMNS = 110
NOT_RUN = ("serve ", "rollout ")
"""Commands that end only when they are told to, or need a server; what stands below them is left as it is."""
CONSOLE = re.compile(r"^```console\n\$ memstore (.*)\n(?:.*\n)*?```$", re.MULTILINE)
WORDS = {"string": "text", "integer": "whole number", "number": "number"}
SETTINGS = re.compile(r"<!-- settings -->\n(?:.*\n)*?<!-- /settings -->")
QUERY = re.compile(r"^(## (\S+)\n(?:(?!## ).*\n)*?)```cypher\n(?:.*\n)*?```$", re.MULTILINE)


def main() -> None:
    """Rewrite the pages in place."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "memstore").symlink_to(DOCS.parent / "memstore")
        (here / "memstore.toml").write_text('[profiles.demo]\nmemory = "demo-memory"\n', encoding="utf-8")
        for name in PAGES:
            page = DOCS / name
            found = CONSOLE.findall(page.read_text(encoding="utf-8"))
            commands = [words for words in found if not words.startswith(NOT_RUN)]
            outputs = {words: output_of(words, here) for words in commands}
            # Read once more: somebody may have written on the page while the commands ran.
            page.write_text(fill_page(page.read_text(encoding="utf-8"), outputs), encoding="utf-8")


def fill_page(text: str, outputs: Mapping[str, str]) -> str:
    """A page with its blocks filled; a command that is not among `outputs` keeps what stands below it."""
    texts = {query.name: query.text.strip() for query in named_queries()}
    text = SETTINGS.sub(lambda _: f"<!-- settings -->\n{settings_table()}<!-- /settings -->", text)
    text = QUERY.sub(lambda found: f"{found[1]}```cypher\n{texts[found[2]]}\n```", text)

    def console(found: re.Match[str]) -> str:
        return f"```console\n$ memstore {found[1]}\n{outputs[found[1]]}```" if found[1] in outputs else found[0]

    return CONSOLE.sub(console, text)


def settings_table() -> str:
    """Every setting: its variable, what it may be, its default, what it is for."""
    rows = ["| variable | value | default | what it is |", "|---|---|---|---|"]
    for name, schema in Settings.model_json_schema()["properties"].items():
        default = "" if schema.get("default") is None else f"`{schema['default']}`"
        words = " ".join(str(schema["description"]).split())
        rows.append(f"| `MEMSTORE_{name.upper()}` | {_allowed(schema)} | {default} | {words} |")
    return "\n".join(rows) + "\n"


def _allowed(schema: dict[str, Any]) -> str:
    """What a setting may be, in words, from its JSON schema."""
    (kind,) = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    words = {"password": "secret", "path": "path"}.get(kind.get("format", ""), WORDS[kind["type"]])
    limits = [f"{word} {kind[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in kind]
    return " ".join([words, *limits])


def output_of(words: str, folder: Path) -> str:
    """What a command prints, with paths as a reader would see them.

    Raises:
        SystemExit: the command failed; the page is left as it was.
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
