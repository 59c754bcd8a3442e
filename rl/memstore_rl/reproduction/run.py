"""Do the steps of a plan that are not done yet, and make the tables of what is there.

A step is done once its record is written, so that a kill at any time loses at most the step in progress. A training
that needs a GPU is not run on a machine without one. It counts as done once its checkpoint is there, or the rollouts of
the test queries by the trained policy; meanwhile all steps that do not need it are done.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from memstore.errors import InputError
from memstore.runtime.disk_space import space_errors
from memstore_rl.reproduction.command import StepFailed, choose_port, run_command, shown_command
from memstore_rl.reproduction.placeholders import filled
from memstore_rl.reproduction.plan import PlanFile
from memstore_rl.reproduction.results import results_of
from memstore_rl.reproduction.sources import Sources, file_digests, sources_of
from memstore_rl.reproduction.state import RunFolder, check_plan, open_folder
from memstore_rl.reproduction.step import Step, fingerprints
from memstore_rl.reproduction.steps import steps_of, steps_to_redo
from memstore_rl.reproduction.tables import TABLES, read_made_of, write_tables

Report = Callable[[str], None]


@dataclass
class Reproduction:
    """What a call has done."""

    folder: Path
    steps: int
    """Number of steps of the plan."""
    done: list[str] = field(default_factory=list)
    """Names of the steps that this call has done."""
    earlier: list[str] = field(default_factory=list)
    """Names of the steps that were done before."""
    stopped: list[Step] = field(default_factory=list)
    """Steps that need a GPU, which this machine lacks."""
    waiting: list[str] = field(default_factory=list)
    """Names of the steps that need one of these."""
    tables: Path | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every step is done."""
        return not self.stopped and not self.waiting

    @property
    def stop_sentence(self) -> str:
        """What is to be run elsewhere before the reproduction can go on."""
        first = self.stopped[0]
        more = f", and {len(self.stopped) - 1} more like it" if len(self.stopped) > 1 else ""
        result = " or ".join(str(self.folder / path) for path in first.brought or first.outputs)
        return (
            f"the step {first.name} needs a GPU, and this machine has none{more}; run it in {self.folder} on a machine "
            f"with one ({shown_command(first)}), bring {result} here, and run the same command again"
        )


def reproduce(file: PlanFile, folder: Path, report: Report = print, *, redo: Sequence[str] = ()) -> Reproduction:
    """Do the steps of a plan that are not done yet, in a folder.

    Args:
        redo: names of steps to do again, with all that need them; what they have written is removed.
        report: gets the name and the command of each step that is begun, and notes.

    Raises:
        InputError: the plan does not fit the folder or names something that does not exist.
        LockedError: another run uses the folder.
        StepFailed: the command of a step failed.
        StoreFullError: no space is left.
    """
    _check_predictors(file)
    sources = sources_of(file)
    with open_folder(folder.absolute(), [policy.name for policy in file.plan.policies]) as place:
        steps = steps_of(file, sources, place.path)
        marks = fingerprints(steps)
        again = steps_to_redo(steps, redo)
        document, changes = check_plan(place.path, file.plan, file_digests(file, sources.all), steps, marks, again)
        for step in reversed(again):
            place.forget(step)
        place.write("plan.json", json.dumps(document, indent=1) + "\n")
        result = Reproduction(folder, len(steps))
        if changes:
            result.notes.append(f"the plan has changed without an effect on what is done: {'; '.join(changes)}")
            report(f"note: {result.notes[0]}")
        do_steps(steps, place, result, report)
        notes = _make_tables(file, sources, place, result, marks)
    for note in notes:
        report(f"note: {note}")
    result.notes += notes
    return result


def _check_predictors(file: PlanFile) -> None:
    """Refuse unknown predictors before the rollouts that they need."""
    from memstore_gnn.evaluation.compare import ON_REQUEST, PREDICTORS

    known = (*PREDICTORS, *ON_REQUEST)
    for name in file.plan.reward_models.predictors:
        if name not in known:
            raise InputError(f"{file.path}: reward_models.predictors has {name!r}; there are {', '.join(known)}")


def do_steps(steps: Sequence[Step], place: RunFolder, result: Reproduction, report: Report) -> None:
    """Do those of the steps that are not done and can be done here.

    Raises:
        StepFailed: the command of a step failed; the steps before it are done.
        StoreFullError: no space is left.
    """
    ready, marks = set[str](), fingerprints(steps)
    for count, step in enumerate(steps, 1):
        number = f"[{count}/{len(steps)}]"
        if place.record(step) is not None:
            result.earlier.append(step.name)
        elif _is_brought(step, place):
            place.finish(step, marks[step.name], 0.0, brought=True)
            report(f"{number} {step.name}: its result was brought")
            result.done.append(step.name)
        elif not ready.issuperset(step.needs):
            result.waiting.append(step.name)
            continue
        elif step.gpu and not _has_gpu():
            result.stopped.append(step)
            continue
        else:
            _do(step, number, marks[step.name], place, report)
            result.done.append(step.name)
        ready.add(step.name)


def _do(step: Step, number: str, mark: str, place: RunFolder, report: Report) -> None:
    values = choose_port(step)
    report(f"{number} {step.name}\n$ {filled(step.command, values)}")
    if step.scratch:
        report(f"  its output is in {place.log(step)}")
    started = time.monotonic()
    with space_errors(f"no space is left for {place.path}; free some and run the same command again"):
        place.begin(step)
        run_command(step, place, values)
    if missing := [path for path in step.outputs if not (place.path / path).exists()]:
        raise StepFailed(
            f"the command of the step {step.name} ended without an error and has not written {missing[0]} (log: "
            f"{place.log(step)}); correct it, and the same command resumes"
        )
    record = place.finish(step, mark, time.monotonic() - started)
    report(f"  {record.seconds:.1f} s")


def _is_brought(step: Step, place: RunFolder) -> bool:
    """Whether something else than this step has written its result, and the step cannot complete it."""
    if place.begun(step) or not any(_has_content(place.path / path) for path in step.brought):
        return False
    present = all((place.path / path).exists() for path in step.requires)
    return not step.resumes or not present or (step.gpu and not _has_gpu())


def _has_content(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.is_file()


@cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _make_tables(
    file: PlanFile, sources: Sources, place: RunFolder, result: Reproduction, marks: dict[str, str]
) -> list[str]:
    """Write the tables, unless those that are there were made from the same steps; return notes on what they lack."""
    result.tables = result.folder / TABLES
    done = frozenset([*result.done, *result.earlier])
    made_of = sorted(f"{name} {mark}" for name, mark in marks.items() if name in done)
    digest = hashlib.blake2b("\0".join(made_of).encode(), digest_size=16).hexdigest()
    if read_made_of(place.path) == digest:
        return []
    return write_tables(results_of(file.plan, sources, place.path, done), place, digest)
