"""A page as one file, to attach to an issue: it has its style and scripts inside and loads nothing.

Templates and views are those of the pages; links to other pages become text. The policy in the head allows this style
and these scripts alone, by their hashes. KaTeX is inside only where there is mathematics, which is shown as it was
written where scripts do not run.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from markupsafe import Markup

from memstore.errors import InputError
from memstore.labels.answer_index import AnswerIndex
from memstore.records.ids import query_id
from memstore_gnn.scoring.output_file import check_output
from memstore_rl.inspector.disagreements import Kind, find_disagreements
from memstore_rl.inspector.site import templates
from memstore_rl.inspector.source import Source
from memstore_rl.inspector.views.disagreements import TITLES, disagreement_page
from memstore_rl.inspector.views.group import group_sheet
from memstore_schema.columns import NodeLabel

LIMIT = 100
"""Disagreements of a kind in a file."""
_STATIC = Path(__file__).parent / "static"
_MATHEMATICS = ("katex/katex.min.js", "pages.js")
_LINK = re.compile(r'<a\b[^>]*\bhref="/[^"]*"[^>]*>(.*?)</a>', re.DOTALL)


@dataclass(frozen=True)
class ExportedPage:
    """A page that was written to a file."""

    path: str
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """What `memstore export html` prints."""
        return asdict(self)


def export_query(source: Source, query: str, path: Path, *, force: bool = False) -> ExportedPage:
    """Write the sheet of a query to a file.

    Args:
        query: its id, the beginning of its id, its key or its text.
        force: overwrite the file.

    Raises:
        InputError: there is no such query, several have this key, or the file exists or cannot be written.
    """
    _check(path, force)
    sheet = group_sheet(source, find_query(source, query))
    return _write(path, "query.html", {"sheet": sheet, "address": lambda **_: ""})


def export_disagreements(source: Source, path: Path, *, limit: int = LIMIT, force: bool = False) -> ExportedPage:
    """Write the disagreements of a memory to a file, the largest of each kind.

    Args:
        limit: how many of a kind.
        force: overwrite the file.

    Raises:
        InputError: the file exists or cannot be written.
    """
    _check(path, force)
    found = find_disagreements(source)
    pages = [disagreement_page(source, found, kind, limit=limit) for kind in get_args(Kind)]
    return _write(path, "disagreements_file.html", {"pages": pages, "titles": TITLES})


def find_query(source: Source, name: str) -> str:
    """Id of the query with this id, beginning of an id, key or text.

    Raises:
        InputError: there is none, or several have this key or beginning of an id.
    """
    for exact in (name, query_id(name) if name.strip() else name):
        if len(source.nodes(NodeLabel.QUERY, ["id"], ids=[exact])):
            return exact
    index = AnswerIndex(source)
    return index.query_ids[index.query(name)]


def page_as_text(template: str, values: Mapping[str, object]) -> str:
    """A page as HTML that needs nothing else."""
    environment = templates()
    environment.filters["unlinked"] = _unlinked
    style = _static("style.css")
    common = {"layout": "file.html", "in_file": True, "root": "", "version": version("memstore")}
    common |= {"now": datetime.now(UTC), "style": Markup(style)}

    def filled(scripts: list[str]) -> str:
        allowed = " ".join(map(_hash, scripts)) or "'none'"
        policy = f"default-src 'none'; style-src {_hash(style)}; script-src {allowed}; img-src data:; base-uri 'none'"
        own = {"scripts": [Markup(script) for script in scripts], "policy": f"{policy}; form-action 'none'"}
        return environment.get_template(template).render({**common, **values, **own})

    page = filled([])
    return filled([_static(name) for name in _MATHEMATICS]) if 'class="math"' in page else page


def _unlinked(html: str) -> Markup:
    """HTML of a template without links to other pages; texts cannot hold a link, since they are escaped."""
    return Markup(_LINK.sub(r"\1", html))


def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source of a policy that allows an inline style or script with this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _check(path: Path, force: bool) -> None:
    check_output(path, "page")
    if path.exists() and not force:
        raise InputError(f"{path} already exists; name a new file, or overwrite it with --force")


def _write(path: Path, template: str, values: Mapping[str, object]) -> ExportedPage:
    """Write a page under a temporary name, and rename it."""
    page = page_as_text(template, values).encode()
    building = path.with_name(f".memstore-{os.getpid()}.html")
    try:
        building.write_bytes(page)
        building.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        building.unlink(missing_ok=True)
    return ExportedPage(str(path), len(page))
