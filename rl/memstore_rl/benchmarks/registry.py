"""The bundled benchmarks by name, and the lookup of local copies and cached ones."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType

from memstore.errors import InputError
from memstore.types import DOMAINS
from memstore_rl.benchmarks.declaration import SUFFIX, Declaration, read_declaration

_SETS = Path(__file__).parent / "sets"


@cache
def benchmarks() -> MappingProxyType[str, Declaration]:
    """All bundled benchmarks by name; the out-of-domain ones come last."""
    found = [replace(read_declaration(path), folder=None) for path in sorted(_SETS.glob(f"*{SUFFIX}"))]
    order = sorted(found, key=lambda each: (each.out_of_domain, DOMAINS.index(each.domain), each.name))
    return MappingProxyType({declaration.name: declaration for declaration in order})


def declaration_of(source: str) -> Declaration | None:
    """The bundled benchmark of this name, or the one declared in this file; None: `source` is a file of queries.

    Raises:
        InputError: neither a benchmark nor a file, or an invalid declaration.
    """
    if source in benchmarks():
        return benchmarks()[source]
    if source.endswith(SUFFIX):
        return read_declaration(Path(source))
    if source == "-" or Path(source).exists():
        return None
    if os.sep in source or "." in source:
        raise InputError(f"no file {source}; check its name")
    folded = source.lower().replace("-", "_").replace("+", "_plus").replace(" ", "_")
    similar = get_close_matches(folded, benchmarks(), 1)
    hint = f"did you mean {similar[0]}?" if similar else "`memstore datasets` lists the benchmarks"
    raise InputError(f"no benchmark or file {source!r}; {hint}")


def local_copy(declaration: Declaration, folder: Path) -> Path | None:
    """The folder's copy of the benchmark, under its own name or its name on the hub; None if there is none."""
    for path in (folder / declaration.name, folder / declaration.source):
        if path.is_dir():
            return path
    return None


def cached(declaration: Declaration) -> bool:
    """Whether the cache of the `datasets` library has the benchmark; looks at folders without importing the library."""
    config = declaration.config or "default"
    entries = [entry for entry in _cache().glob("*___*") if _plain(entry.name) == _plain(declaration.source)]
    prepared = [path for entry in entries for path in entry.glob("*/*/*/dataset_info.json")]
    return any(path.parents[2].name == config or path.parents[2].name.startswith(f"{config}-") for path in prepared)


def _plain(name: str) -> str:
    """A dataset's name without the characters that the library changes in folder names: case, underscores, hyphens."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _cache() -> Path:
    """The cache folder of `datasets`, from the environment variables that it reads."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    home = Path(os.environ.get("HF_HOME", home)).expanduser()
    return Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets"))
