"""`memstore migrate`: convert a memory of an older schema to the present one."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.library_logging import quiet_libraries
from memstore_cli.open_memory import read_settings
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore.pipeline.migrate import MigrateSummary


class Side(StrEnum):
    """Side of a contradiction."""

    FIRST = "first"
    SECOND = "second"


def migrate(
    memory: MemoryOption = "",
    prefer: Annotated[
        Side | None,
        typer.Option(
            "--prefer",
            show_default=False,
            help="Where one query or rollout has two values: keep that of the older rollouts (first) or of the newer "
            "ones (second). Default: list them and change nothing.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a memory of an older schema: queries with the same text become one, and nothing is lost.

    The same command finishes an interrupted migration. In a folder, the old graph is kept beside the new one.
    """
    quiet_libraries()
    from memstore.memory import Memory

    started = time.perf_counter()
    with show_progress(as_json) as progress:
        summary = Memory.migrate(
            memory, prefer=prefer.value if prefer else None, settings=read_settings(), progress=progress
        )
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        print_json({**summary.as_json(), "seconds": seconds})
    else:
        _show(summary, memory, seconds)


def _show(summary: MigrateSummary, memory: str, seconds: float) -> None:
    if not summary.queries:
        print(f"nothing to convert: {memory} has schema {summary.schema['after']}")
        return
    for sentence in summary.contradictions:
        print(f"decided: {sentence}")
    for name in ("queries", "rollouts", "answers"):
        counts = getattr(summary, name)
        print(f"{name}: {counts['before']:,} before, {counts['after']:,} after")
    if summary.unrecovered:
        print(f"{summary.unrecovered:,} rollouts would be added a second time if their file were ingested again")
    if summary.models:
        print(
            f"{counted(summary.models, 'reward model')} kept; queries have new ids, by which a label budget is drawn, "
            "so train models with --budget again"
        )
    print(f"{memory} has schema {summary.schema['after']} now ({seconds:.1f} s)")
    if summary.backup is not None:
        print(f"the old graph is kept in {summary.backup}; delete it when you do not need it any more")
