"""Expand folders and glob patterns to files."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from memstore.errors import InputError

_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".ndjson", ".ndjson.gz", ".parquet")
"""Endings of the files of a folder that are read; a file that is named itself may have any name."""
_REJECTS = ".rejects.jsonl"
"""Ending of the files of rejected rows that an ingest writes."""
MEMORY_MARKER = "memstore.json"
"""File that every folder of a memory has. `memstore.locations.opening`, a higher layer, defines the same name."""
_DIGITS = re.compile(r"([0-9]+)")


def expand_paths(names: Sequence[str | Path]) -> list[str | Path]:
    """Replace folders and glob patterns by their files, in natural order: `2.jsonl` comes before `10.jsonl`.

    A folder stands for the files of a supported format in it and its subfolders, without hidden ones, rejected rows and
    memories; those that are listed already are left out. A name that exists is never taken for a pattern. Names of
    files are kept as they are, also repeated ones.

    Raises:
        InputError: a folder or a pattern has no such file.
    """
    found: list[str | Path] = []
    listed: set[Path] = set()
    for name in names:
        for file in _files(name):
            if file is name or Path(file).absolute() not in listed:
                found.append(file)
            listed.add(Path(file).absolute())
    return found


def skipped_files(names: Sequence[str | Path]) -> list[Path]:
    """The files of these folders that are not read: of another format, rejected rows, or parts of a memory."""
    folders = [Path(name) for name in names if str(name) != "-" and Path(name).is_dir()]
    return [
        file
        for folder in folders
        for file in _in_natural_order([file for file in folder.rglob("*") if file.is_file()])
        if not _is_readable(file, folder) and not _is_hidden(file, folder)
    ]


def _files(name: str | Path) -> list[str | Path]:
    path = Path(name)
    if str(name) == "-":
        return [name]
    if path.is_dir():
        inside = [file for file in path.rglob("*") if _is_readable(file, path)]
        if not inside:
            raise InputError(f"the folder {name} has no file of rollouts; it needs files that end in {_listed()}")
        return list(_in_natural_order(inside))
    if not glob.has_magic(str(name)) or path.exists():
        return [name]
    matches = [Path(match) for match in glob.glob(str(name), recursive=True)]
    if not matches:
        raise InputError(f"no file matches {name}; check the pattern")
    return [file for match in _in_natural_order(matches) for file in (_files(match) if match.is_dir() else [match])]


def _is_readable(file: Path, folder: Path) -> bool:
    name = file.name.lower()
    if not name.endswith(_ENDINGS) or name.endswith(_REJECTS) or not file.is_file() or _is_hidden(file, folder):
        return False
    return not any((parent / MEMORY_MARKER).is_file() for parent in [folder / part for part in _parents(file, folder)])


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _parents(file: Path, folder: Path) -> list[Path]:
    """The folders from `folder` to the file, relative to `folder`."""
    return list(file.relative_to(folder).parents)


def _in_natural_order(files: Sequence[Path]) -> list[Path]:
    """Sorted with numbers in names compared as numbers."""

    def key(file: Path) -> list[tuple[int, str]]:
        return [(int(part) if number % 2 else 0, part) for number, part in enumerate(_DIGITS.split(str(file)))]

    return sorted(files, key=key)


def _listed() -> str:
    return f"{', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}"
