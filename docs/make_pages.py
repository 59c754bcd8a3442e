"""Fill the pages with what the command really prints.

    python docs/make_pages.py

In each page, a fenced block of kind `console` that begins with `$ memstore ...` gets the output of that command, and a
block of kind `cypher` below a heading gets the text of the named query of that name. The commands run one after the
other, page by page, in a folder of their own, so a later one sees what an earlier one made. The prose is left as it is.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from memstore_schema.queries import named_queries

DOCS = Path(__file__).resolve().parent
PAGES = ("commands.md", "queries.md")
COLUMNS = 110
CONSOLE = re.compile(r"^```console\n\$ memstore (.*)\n(?:.*\n)*?```$", re.MULTILINE)
QUERY = re.compile(r"^(## (\S+)\n(?:(?!## ).*\n)*?)```cypher\n(?:.*\n)*?```$", re.MULTILINE)


def main() -> None:
    """Rewrite the pages in place."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "memstore").symlink_to(DOCS.parent / "memstore")
        for name in PAGES:
            page = DOCS / name
            page.write_text(fill_page(page.read_text(encoding="utf-8"), here), encoding="utf-8")


def fill_page(text: str, folder: Path) -> str:
    """A page with its blocks filled; the commands run in `folder`."""
    texts = {query.name: query.text.strip() for query in named_queries()}
    text = QUERY.sub(lambda found: f"{found[1]}```cypher\n{texts[found[2]]}\n```", text)
    return CONSOLE.sub(lambda found: f"```console\n$ memstore {found[1]}\n{output_of(found[1], folder)}```", text)


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
