"""Expand folders, glob patterns and archives to files."""

from __future__ import annotations

import glob
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from memstore.errors import InputError
from memstore.records.readers.archives import Archive, is_archive
from memstore.records.readers.natural_order import in_natural_order
from memstore.records.readers.other_formats import SNIFFED_BYTES, text_format
from memstore.records.readers.run_folders import repeats_or_describes

_TEXT_ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv")
_YAML_ENDINGS = (".yaml", ".yml")
"""Endings of files that are read if they begin with a list of objects: others are settings."""
_ENDINGS = (
    *_TEXT_ENDINGS, *_YAML_ENDINGS, ".parquet", ".arrow", ".feather", ".zip", ".eval",
    *(ending + packing for ending in _TEXT_ENDINGS for packing in (".gz", ".zst")),
)  # fmt: skip
"""Endings of the files of a folder that are read; a file that is named itself may have any name."""
_NO_ROLLOUTS = frozenset(
    [
        "dataset_info.json", "dataset_dict.json", "state.json", "metadata.json", "config.json", "metrics.jsonl",
        "eval_plan.json",
    ]
)  # fmt: skip
"""Files beside rollouts that describe a data set or a run."""
_REJECTS = ".rejects.jsonl"
"""Ending of the files of rejected rows that an ingest writes."""
MEMORY_MARKER = "memstore.json"
"""File that every folder of a memory has. `memstore.locations.opening`, a higher layer, defines the same name."""


def expand_paths(names: Sequence[str | Path]) -> list[str | Path]:
    """Replace folders, glob patterns and zip archives by their files, in natural order (`2.jsonl` before `10.jsonl`).

    A file in an archive is named `ARCHIVE/FILE`. A folder stands for the files of a supported format in it and its
    subfolders, without hidden ones, rejected rows and memories; those that are listed already are left out. A name that
    exists is never taken for a pattern. Names of files are kept as they are, also repeated ones.

    Raises:
        InputError: a folder, a pattern or an archive has no such file.
    """
    found: list[str | Path] = []
    listed: set[Path] = set()
    for name in names:
        for file in (member for found_file in _files(name) for member in _members(found_file)):
            if file is name or Path(file).absolute() not in listed:
                found.append(file)
            listed.add(Path(file).absolute())
    return found


def skipped_files(names: Sequence[str | Path]) -> list[Path]:
    """The files of these folders that are not read: other formats, rejected rows, parts of a memory, broken links."""
    folders = [Path(name) for name in names if str(name) != "-" and Path(name).is_dir()]
    return [
        file
        for folder in folders
        for file in in_natural_order([file for file in folder.rglob("*") if file.is_file() or _is_broken_link(file)])
        if not _is_readable(file, folder) and not _is_hidden(file, folder)
    ]


def _files(name: str | Path) -> list[str | Path]:
    path = Path(name)
    if not str(name):
        raise InputError("the name of a file is empty; is a variable of the shell unset?")
    if str(name) == "-":
        return [name]
    if os.path.isdir(path):  # unlike `Path.is_dir`, it accepts a name that is too long
        inside = [file for file in path.rglob("*") if _is_readable(file, path)]
        if not inside:
            raise InputError(f"the folder {name} has no file of rollouts; it needs files that end in {_listed()}")
        return list(in_natural_order(inside))
    if not glob.has_magic(str(name)) or os.path.lexists(path):
        return [name]
    matches = _matches(path)
    if not matches:
        raise InputError(f"no file matches {name}; check the pattern")
    return [file for match in in_natural_order(matches) for file in (_files(match) if match.is_dir() else [match])]


def _matches(pattern: Path) -> list[Path]:
    """The files and folders of a pattern. `**` does not follow links to folders, which may lead in circles."""
    fixed = next(at for at, part in enumerate(pattern.parts) if glob.has_magic(part))
    if "**" not in pattern.parts:
        return [Path(match) for match in glob.glob(str(pattern))]
    folder = Path(*pattern.parts[:fixed])
    return [match for match in folder.glob(str(Path(*pattern.parts[fixed:]))) if not _is_hidden(match, folder)]


def _is_broken_link(file: Path) -> bool:
    return file.is_symlink() and not os.path.exists(file)


def _members(file: str | Path) -> list[str | Path]:
    """The files of a zip archive that can be read; any other file itself."""
    path = Path(file)
    if str(file) == "-" or not is_archive(path):
        return [file]
    archive = Archive(path)
    if archive.is_eval_log:
        return [file]
    members = [name for name in archive.names if _is_rollouts(name, partial(archive.open, name))]
    if not members:
        raise InputError(f"the archive {file} has no file of rollouts; it needs files that end in {_listed()}")
    return [path / name for name in in_natural_order(members)]


def _is_rollouts(name: str, opened: Callable[[], IO[bytes]]) -> bool:
    """Whether a file may hold rollouts by its name, or for YAML by its start."""
    name = name.rpartition("/")[2].lower()
    if not name.endswith(_ENDINGS) or name.endswith(_REJECTS) or name in _NO_ROLLOUTS:
        return False
    if not name.endswith(_YAML_ENDINGS):
        return True
    try:
        with opened() as file:
            return text_format(file.read(SNIFFED_BYTES)) == "yaml"
    except (OSError, InputError, zipfile.BadZipFile, zlib.error):
        return True  # whoever reads it says why it cannot be read


def _is_readable(file: Path, folder: Path) -> bool:
    if not file.is_file() or _is_hidden(file, folder) or not _is_rollouts(file.name, lambda: file.open("rb")):
        return False
    if repeats_or_describes(file, folder):
        return False
    return not any((parent / MEMORY_MARKER).is_file() for parent in [folder / part for part in _parents(file, folder)])


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _parents(file: Path, folder: Path) -> list[Path]:
    """The folders from `folder` to the file, relative to `folder`."""
    return list(file.relative_to(folder).parents)


def _listed() -> str:
    endings = [ending for ending in _ENDINGS if ending.count(".") == 1]
    return f"{', '.join(endings[:-1])} or {endings[-1]} (texts also with .gz or .zst)"
