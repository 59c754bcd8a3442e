"""`memstore queue`: which queries to label next."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption
from memstore_cli.output import cell, counted, print_json
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore_gnn.queue.items import QueueItem
    from memstore_gnn.verbs import Queue

SHOWN_ANSWERS, SHOWN_CHARS = 5, 100
"""Answers of a query, and characters of a text, that are printed."""


class Criterion(StrEnum):
    """By what queries are chosen."""

    TRAINING = "training"
    PAGES = "pages"


def queue(
    memory: MemoryOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of queries.")] = 20,
    criterion: Annotated[
        Criterion,
        typer.Option(
            "--for",
            help="training: labels that cover the uncertain queries, before a policy is trained. pages: labels that "
            "are expected to change the advantages most.",
        ),
    ] = Criterion.TRAINING,
    audit: Annotated[
        float,
        typer.Option(
            "--audit",
            min=0.0,
            max=1.0,
            help="Share of the queue that is drawn at random and marked for audit: no training sees its labels.",
        ),
    ] = 0.2,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draw of audit queries.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="ID", show_default="the model in use", help="Reward model of the probabilities (pages)."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            show_default=False,
            help="Write the queue: JSON lines, or tasks of Label Studio if the name ends in .json.",
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the queries to label next, with the reason and their answers."""
    with open_memory(memory, device=device) as store:
        from memstore_gnn.verbs import queue_memory

        with show_progress(as_json) as progress:
            found = queue_memory(
                store,
                limit,
                criterion=criterion.value,
                audit_share=audit,
                seed=seed,
                model=model,
                device=store.settings.device,
                progress=progress,
            )
    if output is not None:
        found.write(output)
    if as_json:
        print_json(found.as_json())
        return
    if output is None:
        for position, item in enumerate(found.items, start=1):
            _show(position, item)
    print(_summary(found, output))


def _show(position: int, item: QueueItem) -> None:
    purpose = "audit: " if item.purpose == "audit" else ""
    print(f"{position:>3}  {item.query_id}  {item.dataset}  {counted(item.rollouts, 'rollout')}")
    print(f"     {purpose}{item.reason}")
    print(f"     {cell(item.query)[:SHOWN_CHARS]}")
    for number, answer in enumerate(item.answers[:SHOWN_ANSWERS], start=1):
        judged = "  labelled" if answer.judged else ""
        print(f"     {number:>3}  {answer.share:>4.0%}  p {answer.p:.2f}  {cell(answer.answer)[:SHOWN_CHARS]}{judged}")
    if len(item.answers) > SHOWN_ANSWERS:
        print(f"          and {len(item.answers) - SHOWN_ANSWERS:,} more answers")


def _summary(found: Queue, output: Path | None) -> str:
    audit = sum(item.purpose == "audit" for item in found.items)
    where = f" in {output}" if output is not None else ""
    marked = f" ({found.marked:,} newly marked)" if found.marked else ""
    return (
        f"{counted(len(found.items), 'query', 'queries')}{where}, {audit:,} for audit{marked}; probabilities from "
        f"{found.p_from}"
    )
