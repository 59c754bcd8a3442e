"""The rows of a benchmark, from the hub or from a local copy, through the library `datasets`.

Whatever goes wrong there ends as one sentence that says what to do. Nothing is fetched in place of what was named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from memstore.errors import InputError
from memstore_rl.benchmarks.declaration import Declaration
from memstore_rl.benchmarks.names import local_copy

_QUOTED = 300
"""Characters of a library's message that a sentence repeats."""
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


class Rows(Protocol):
    """The part of a `datasets.Dataset` that is used here."""

    column_names: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> dict[str, Any]: ...

    def select_columns(self, columns: list[str]) -> Sequence[dict[str, Any]]:
        """The rows with these columns alone."""
        ...


def fetch(declared: Declaration, folder: Path | None) -> list[Rows]:
    """The rows of each split of the source.

    Args:
        folder: holds a copy of the benchmark, under its name or under the one it has on the hub; None: the hub.

    Raises:
        InputError: they cannot be had; the message says what helps.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "benchmarks are read by the library datasets, which is not installed; pip install 'memstore[rollout]'"
        ) from error
    place = declared.local
    if place is None and folder is not None:
        place = local_copy(declared, folder)
        if place is None:
            raise InputError(
                f"{folder} holds no copy of {declared.name}: there is neither {folder / declared.name} nor "
                f"{folder / declared.source}; copy the data set {declared.source} to one of them"
            )
    try:
        options = _of_hub(declared) if place is None else _local(declared, place)
        parts: list[Rows] = datasets.load_dataset(**options, split=list(declared.splits))
    except InputError:
        raise
    except Exception as error:
        _explain(declared, place, error)
    return parts


def _of_hub(declared: Declaration) -> dict[str, Any]:
    """How `datasets` is asked for a data set of the hub."""
    return {"path": declared.source, "name": declared.config, "revision": declared.revision}


def _local(declared: Declaration, place: Path) -> dict[str, Any]:
    """How `datasets` is asked for a file, or for a folder as it is on the hub or has a file for each split."""
    import datasets

    if not place.exists():
        raise InputError(f"{declared.name} has no data: there is no {place}; check `source`")
    if place.is_file():
        builder = _BUILDERS.get(Path(place.name.removesuffix(".gz")).suffix)
        if builder is None:
            raise InputError(f"{place} cannot be read as data; it must end in {', '.join(_BUILDERS)}")
        return {"path": builder, "data_files": {name: str(place) for name in declared.splits}}
    if declared.config and (place / "README.md").is_file():
        known = datasets.get_dataset_config_names(str(place))
        return {"path": str(place), "name": declared.config if known != ["default"] else None}
    inner = place / (declared.config or "")
    return {"path": str(inner if inner.is_dir() else place)}


def _explain(declared: Declaration, place: Path | None, error: Exception) -> NoReturn:
    """Raise what the error of a library comes to."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    said = " ".join(str(error).split()).rstrip(".")[:_QUOTED]
    copy = f"name a folder that holds a copy of it (--data DIR, with the data in DIR/{declared.name})"
    if place is not None:
        raise InputError(f"{declared.name} cannot be read from {place}: {said}") from error
    if isinstance(error, GatedRepoError) or (isinstance(error, DatasetNotFoundError) and "gated" in said):
        raise InputError(
            f"{declared.name} is gated: accept its terms at {declared.link or declared.source} and log in "
            f"(`hf auth login`), or {copy}"
        ) from error
    # The library takes a hub that does not answer for a file that is not there, and says so in its sentence only.
    silent = isinstance(error, FileNotFoundError) and "LocalEntryNotFoundError" in said
    if silent or isinstance(error, ConnectionError | TimeoutError | HfHubHTTPError):
        reason = "it does not answer" if silent else said
        raise InputError(
            f"the hub cannot be reached for {declared.name} ({reason}); try again later, or {copy}"
        ) from error
    raise InputError(f"{declared.name} cannot be loaded from {declared.source}: {said}; {copy}") from error
