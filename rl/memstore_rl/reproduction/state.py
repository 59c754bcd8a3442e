"""The folder of a reproduction: its lock, its plan, and a record of each step that is done.

lock                held by the run, and by the command of a step that outlives a killed run
plan.json           the plan that began the folder, with digests of the files that it names
steps/NAME.json     what was done; written once the step is done, atomically
steps/NAME.begun    the step was begun here; its outputs may be incomplete until the record is there
logs/NAME.log       what its commands printed
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from memstore.errors import InputError, LockedError
from memstore.runtime.disk_space import is_full, space_errors
from memstore_rl.reproduction.step import Step

_BY_HAND = frozenset(["queries", "data"])
"""Names in a folder in which the commands of `--dry-run` were entered by hand, besides those of the policies."""
_ENGINE = ("endpoint", "serve", "vllm", "vllm_options", "api_key_file", "concurrency", "rate", "timeout", "tries")
_WITHOUT_EFFECT = frozenset([*_ENGINE, "logprobs", "gpus", "gpu", "data"])
"""Last parts of keys that change no result."""


@dataclass(frozen=True)
class Record:
    """A step that is done."""

    name: str
    fingerprint: str
    command: str
    seconds: float
    """0 for a step whose result was brought."""
    brought: bool = False


class RunFolder:
    """The folder, locked for one run."""

    def __init__(self, path: Path, lock: int) -> None:
        """Wrap an open folder; use `open_folder`."""
        self.path = path
        self.lock = lock
        """File descriptor that holds the lock."""

    def record(self, step: Step) -> Record | None:
        """The record of a step; None if it is not done."""
        return read_record(self.path, step)

    def begun(self, step: Step) -> bool:
        """Whether the step was begun here."""
        return self._path(step, "steps", "begun").exists()

    def begin(self, step: Step) -> None:
        """Remove what an interrupted run of the step left, unless the step continues it, and mark the step as begun."""
        if not step.resumes:
            for output in step.outputs:
                _remove(self.path / output)
        for output in step.outputs:
            (self.path / output).parent.mkdir(parents=True, exist_ok=True)
        self.log(step).parent.mkdir(parents=True, exist_ok=True)
        _write(self._path(step, "steps", "begun"), "")

    def finish(self, step: Step, fingerprint: str, seconds: float, *, brought: bool = False) -> Record:
        """Record the step as done."""
        record = Record(step.name, fingerprint, step.command, round(seconds, 1), brought)
        _write(self._path(step, "steps", "json"), json.dumps(asdict(record), indent=1) + "\n")
        return record

    def forget(self, step: Step) -> None:
        """Remove the record of a step and all that it has written, so that it is done again from the beginning."""
        self._path(step, "steps", "json").unlink(missing_ok=True)
        for path in (*step.outputs, *step.scratch):
            _remove(self.path / path)
        self._path(step, "steps", "begun").unlink(missing_ok=True)

    def log(self, step: Step) -> Path:
        """The log of a step."""
        return self._path(step, "logs", "log")

    def write(self, name: str, text: str) -> Path:
        """Write a file of the folder atomically."""
        _write(self.path / name, text)
        return self.path / name

    def _path(self, step: Step, kind: str, suffix: str) -> Path:
        return self.path / kind / f"{step.name}.{suffix}"


def read_record(folder: Path, step: Step) -> Record | None:
    """The record of a step in a folder; None if it is not done.

    Raises:
        InputError: the record is damaged.
    """
    path = folder / "steps" / f"{step.name}.json"
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; name another --folder") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, and the step is done again") from error


@contextmanager
def open_folder(path: Path, policies: Iterable[str] = ()) -> Iterator[RunFolder]:
    """Create the folder if needed and hold its lock.

    Args:
        policies: names of the plan's policies. A folder that no run has locked before is used if it has nothing but
            their folders, queries and data.

    Raises:
        InputError: the folder cannot be created, or holds something else than a reproduction.
        LockedError: another run, or a command that it started, uses the folder.
        StoreFullError: no space is left.
    """
    with space_errors(f"no space is left for {path}; free some and run the same command again"):
        try:
            path.mkdir(parents=True, exist_ok=True)
            found = {each.name for each in path.iterdir()}
            if "lock" not in found and not found <= _BY_HAND.union(policies):
                raise InputError(f"{path} holds something else; name a new --folder for the reproduction")
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if is_full(error):
                raise
            raise InputError(f"cannot write {path}: {error.strerror}; name another --folder") from error
    try:
        _hold(path, lock)
        yield RunFolder(path, lock)
    finally:
        os.close(lock)


def _hold(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        text = os.read(lock, 32).decode("ascii", "replace").strip()
        raise LockedError(
            f"another run uses {path} (process {text or 'unknown'}, or a command that it started); wait until it has "
            "ended",
            int(text) if text.isdigit() else None,
        ) from error
    with space_errors(f"no space is left for {path}; free some and run the same command again"):
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def check_plan(
    folder: Path,
    plan: BaseModel,
    digests: Mapping[Path, str],
    steps: Sequence[Step],
    fingerprints: Mapping[str, str],
    again: Collection[Step] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Compare a plan with the one that began the folder.

    Args:
        again: steps that are to be done again, so that a change of them does no harm.

    Returns:
        the plan as it is to be stored, and the keys that differ without an effect on a step that is done.

    Raises:
        InputError: a step that is done would be done otherwise.
    """
    document = plan.model_dump(mode="json")
    document["files"] = {path.name: digest for path, digest in digests.items()}
    path = folder / "plan.json"
    if not path.exists():
        return document, []
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); remove it to accept the present plan") from error
    changes = list(_changes(before, document))
    kept = [step for step in steps if step not in again]
    records = [(step, record) for step in kept if (record := read_record(folder, step)) is not None]
    affected = [step.name for step, record in records if record.fingerprint != fingerprints[step.name]]
    if affected:
        what = str(next((c for c in changes if not c.without_effect), "its commands are other ones"))
        done = affected[0] if len(affected) == 1 else f"{affected[0]} and {len(affected) - 1} more steps"
        raise InputError(
            f"the plan has changed since {folder} was begun ({what}), and what is done would be done otherwise "
            f"({done}); restore the plan, name a new --folder, or pass --redo to do these steps again"
        )
    return document, [str(change) for change in changes]


class _Change(NamedTuple):
    """A key whose value differs."""

    key: str
    before: Any
    after: Any

    @property
    def without_effect(self) -> bool:
        """Whether no result depends on the key."""
        parts = self.key.split(".")
        return parts[0] == "assumptions" or parts[-1] in _WITHOUT_EFFECT

    def __str__(self) -> str:
        return f"{self.key} was {_short(self.before)} and is {_short(self.after)}"


def _changes(before: Any, after: Any, key: str = "") -> Iterator[_Change]:
    """The keys that differ, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            yield from _changes(before.get(name), after.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from _changes(*pair, f"{key}.{number}")
    elif before != after:
        yield _Change(key, before, after)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _write(path: Path, text: str) -> None:
    """Write a file so that it is whole or absent."""
    part = path.with_name(f".{path.name}.part")
    with space_errors(f"no space is left for {path}; free some and run the same command again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
