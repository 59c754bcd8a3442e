"""What a reproduction would do: every command, as a script that a person can run, with its estimated cost."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from memstore_rl.reproduction.command import shown_command
from memstore_rl.reproduction.costs import Costs
from memstore_rl.reproduction.plan import PlanFile
from memstore_rl.reproduction.sources import sources_of
from memstore_rl.reproduction.state import read_record
from memstore_rl.reproduction.step import Estimate, Step, fingerprints
from memstore_rl.reproduction.steps import steps_of, steps_to_redo


def dry_run(file: PlanFile, folder: Path, *, redo: Sequence[str] = ()) -> dict[str, Any]:
    """The steps of a plan with their commands, states and estimates; nothing is written.

    Args:
        redo: names of steps that are to be done again, with all that need them.

    Returns:
        `folder`, `steps` with `name`, `command`, `done`, `gpu` and `estimate` (`calls`, `prompt_tokens`,
        `completion_tokens`, `seconds`, `gpu_hours`), `total` of the steps that are not done, its `price` at the
        endpoint if the plan has prices, and `assumptions`.

    Raises:
        InputError: the plan names something that does not exist.
    """
    sources = sources_of(file)
    steps = steps_of(file, sources, folder.absolute())
    marks = fingerprints(steps)
    records = {step.name: read_record(folder, step) for step in steps}
    # A step that was done otherwise counts as not done: `reproduce` refuses to go on from it.
    done = {name: record is not None and record.fingerprint == marks[name] for name, record in records.items()}
    done |= dict.fromkeys((step.name for step in steps_to_redo(steps, redo)), False)
    total = sum((step.estimate for step in steps if not done[step.name]), Estimate())
    return {
        "folder": str(folder),
        "folders": sorted({str(PurePosixPath(path).parent) for step in steps for path in step.outputs} - {"."}),
        "steps": [_as_json(step, done[step.name]) for step in steps],
        "total": asdict(total),
        "price": _price(file, total),
        "assumptions": Costs(file.plan, sources, folder.absolute()).assumptions(),
    }


def script(document: dict[str, Any]) -> str:
    """The document of `dry_run` as a script of the shell."""
    folder = shlex.quote(document["folder"])
    lines = [f"mkdir -p {folder} && cd {folder}", f"mkdir -p {shlex.join(document['folders'])}", ""]
    for number, step in enumerate(document["steps"], 1):
        state = "done" if step["done"] else _cost(step["estimate"])
        lines += [f"# {number} {step['name']}: {state}{', needs a GPU' if step['gpu'] else ''}", step["command"], ""]
    price = "" if document["price"] is None else f", {document['price']:,.2f} at the endpoint's prices"
    lines += [f"# all that is not done: {_cost(document['total'])}{price}", f"# {document['assumptions']}"]
    return "\n".join(lines)


def _as_json(step: Step, done: bool) -> dict[str, Any]:
    return {
        "name": step.name,
        "command": shown_command(step),
        "done": done,
        "gpu": step.gpu,
        "estimate": asdict(step.estimate),
    }


def _price(file: PlanFile, total: Estimate) -> float | None:
    prices = file.plan.assumptions.prices
    if prices is None:
        return None
    return (prices[0] * total.prompt_tokens + prices[1] * total.completion_tokens) / 1e6


def _cost(estimate: dict[str, Any]) -> str:
    """`about 42,000 calls, 1.3 M prompt and 16.8 M completion tokens, 1.9 h`."""
    parts = []
    if estimate["calls"]:
        parts.append(f"{estimate['calls']:,} responses of the endpoint")
    if estimate["completion_tokens"]:
        parts.append(f"{_millions(estimate['prompt_tokens'])} prompt and {_millions(estimate['completion_tokens'])} "
                     "completion tokens")  # fmt: skip
    parts.append(_duration(estimate["seconds"]))
    if estimate["gpu_hours"]:
        parts.append(f"{estimate['gpu_hours']:,.1f} GPU hours")
    return f"about {', '.join(parts)}"


def _millions(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 100_000 else f"{number:,}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
