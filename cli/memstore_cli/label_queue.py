"""`memstore label --queue`: label the queries of a queue one by one, with a key and Enter for each."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memstore.errors import InputError
from memstore_cli.output import cell, counted

if TYPE_CHECKING:
    from memstore.labels.session import Question
    from memstore.memory import Memory

KEYS = "1, 2, ... right answer, 0 none of these, x wrong, s skip, u undo, q quit"
TEXT_CHARS = 2000
"""Characters of a query that are shown."""


def label_queue(store: Memory, path: Path, by: str | None) -> tuple[Mapping[str, Any], str]:
    """Ask for a verdict on each query until `q` or the end of the input; return document and sentence.

    At the end of the queue, the last verdict can be undone.
    """
    from memstore.labels.session import LabelSession, queue_of_file

    session = LabelSession(store.stores, queue_of_file(path), by)
    print(KEYS, file=sys.stderr)
    while (question := session.question()) is not None or session.labelled:
        if question is not None:
            _show(question)
        else:
            print("\nthe queue has ended: u undo the last verdict, q quit", file=sys.stderr)
        key = _read_key()
        if key in ("q", ""):
            break
        try:
            print(session.press(key), file=sys.stderr)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
    return {"verdicts": session.labelled}, counted(session.labelled, "verdict") + " given"


def _show(question: Question) -> None:
    print(f"\n{question.position}/{question.total}  {question.query_id}", file=sys.stderr)
    print(question.text[:TEXT_CHARS], file=sys.stderr)
    for number, answer in enumerate(question.answers, start=1):
        judged = "" if answer.label is None else f"  (labelled {answer.label:g})"
        rollouts = counted(answer.rollouts, "rollout")
        print(f" {number:>2}  {cell(answer.text)[:100]}  {rollouts}{judged}", file=sys.stderr)


def _read_key() -> str:
    """A line of the input; "" at its end, "?" for an empty line."""
    print("> ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    return line.strip().lower() or ("?" if line else "")
