"""tinker-cookbook's transcripts (`*_logtree.json`): a tree of headings, conversations and tables for a report.

An attempt of its problems has the headings `Prompt`, `Policy Response` and `Reward`, in this order. The first two hold
a conversation, the last a table of keys and values.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from memstore.errors import RecordError
from memstore.records.shapes.shape import Found, RowValues, Shape, at, rollout

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def _transcript(values: RowValues) -> Iterator[Found]:
    parts: dict[str, Any] = {}
    found = False
    for heading, content in _parts(values["root"]):
        if heading == "Prompt":
            parts = {}
        parts[heading] = content
        if heading == "Reward" and "Policy Response" in parts and "Prompt" in parts:
            found = True
            table = content if isinstance(content, Mapping) else {}
            correct = {"True": 1.0, "False": 0.0}.get(str(table.get("correct")))
            yield rollout(parts["Prompt"], parts["Policy Response"], gold=table.get("reference_answer"), reward=correct)
    if not found:
        raise RecordError("the transcript has no attempt with the headings Prompt, Policy Response and Reward")


def _parts(root: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The conversations (lists of messages) and tables (mappings) under their heading, in the order of the report."""
    heading, waiting = "", [root]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, Mapping):
            continue
        if node.get("tag") in _HEADINGS:
            heading = _text(node).strip()
        elif at(node, "data", "type") == "conversation":
            yield heading, at(node, "data", "messages")
        elif node.get("tag") == "table":
            yield heading, _table(node)
        else:
            waiting.extend(reversed(node.get("children") or []))


def _table(node: Mapping[str, Any]) -> dict[str, str]:
    """A table of two columns without its header."""
    rows = [[_text(cell).strip() for cell in row.get("children") or []] for row in _tagged(node, "tr")]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _tagged(node: object, tag: str) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        if node.get("tag") == tag:
            yield node
        for child in node.get("children") or []:
            yield from _tagged(child, tag)


def _text(node: object) -> str:
    if isinstance(node, str):
        return html.unescape(node)
    return "".join(map(_text, at(node, "children") or []))


TRANSCRIPT = Shape(
    "tinker-cookbook transcript",
    frozenset(["title", "started_at", "root"]),
    _transcript,
    frozenset(["path"]),
    lambda values: isinstance(values["root"], Mapping),
)
