"""The benchmarks that come with memstore, by name, and where the copies of them lie."""

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
from memstore_rl.benchmarks.declaration import ENDING, Declaration, read_declaration

_SETS = Path(__file__).parent / "sets"


@cache
def benchmarks() -> MappingProxyType[str, Declaration]:
    """Every benchmark that comes with memstore, by name; those that are kept for testing come last."""
    found = [replace(read_declaration(path), folder=None) for path in sorted(_SETS.glob(f"*{ENDING}"))]
    order = sorted(found, key=lambda declared: (declared.out_of_domain, DOMAINS.index(declared.domain), declared.name))
    return MappingProxyType({declared.name: declared for declared in order})


def declaration_of(source: str) -> Declaration | None:
    """The benchmark of that name, or the one that a file of this name declares; None: `source` is another file.

    Raises:
        InputError: it is neither a name nor a file, or the file declares no benchmark.
    """
    if source in benchmarks():
        return benchmarks()[source]
    if source.endswith(ENDING):
        return read_declaration(Path(source))
    if source == "-" or Path(source).exists():
        return None
    if os.sep in source or "." in source:
        raise InputError(f"there is no file {source}; check its name")
    folded = source.lower().replace("-", "_").replace("+", "_plus").replace(" ", "_")
    near = get_close_matches(folded, benchmarks(), 1)
    hint = f"did you mean {near[0]}?" if near else "`memstore datasets` lists the benchmarks"
    raise InputError(f"there is no benchmark and no file {source!r}; {hint}")


def local_copy(declared: Declaration, folder: Path) -> Path | None:
    """Where a folder of copies holds the benchmark: under its name, or as the hub calls it; None: it does not."""
    for path in (folder / declared.name, folder / declared.source):
        if path.is_dir():
            return path
    return None


def cached(declared: Declaration) -> bool:
    """Has the library `datasets` kept the benchmark on this machine? Told by its folders; the library is not loaded."""
    config = declared.config or "default"
    kept = [entry for entry in _cache().glob("*___*") if _plain(entry.name) == _plain(declared.source)]
    prepared = [path for entry in kept for path in entry.glob("*/*/*/dataset_info.json")]
    return any(path.parents[2].name == config or path.parents[2].name.startswith(f"{config}-") for path in prepared)


def _plain(name: str) -> str:
    """A data set's name without what the library changes in it for a folder: case, underscores, hyphens."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _cache() -> Path:
    """The folder that `datasets` keeps prepared data in, by the variables that it reads."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    home = Path(os.environ.get("HF_HOME", home)).expanduser()
    return Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets"))
