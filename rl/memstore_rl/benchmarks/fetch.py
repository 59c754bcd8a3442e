"""Load the rows of a benchmark from the hub or a local copy, with the `datasets` library.

Errors of that library become one sentence that says what to do. There is no fallback to another source.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from memstore.errors import InputError
from memstore_rl.benchmarks.declaration import Declaration
from memstore_rl.benchmarks.registry import local_copy

_QUOTED_CHARS = 300
"""Characters of the library's message that an error repeats."""
_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


class Rows(Protocol):
    """The part of `datasets.Dataset` that is used here."""

    column_names: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def select_columns(self, columns: list[str]) -> Sequence[dict[str, Any]]:
        """The rows with only these columns."""
        ...


def fetch(declaration: Declaration, folder: Path | None) -> list[Rows]:
    """The rows of each split of the source.

    Args:
        folder: contains a copy of the benchmark, under its own name or its name on the hub; None: use the hub.

    Raises:
        InputError: the rows cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "benchmarks need the datasets library, which is not installed; run: pip install 'memstore[rollout]'"
        ) from error
    path = declaration.local
    if path is None and folder is not None:
        path = local_copy(declaration, folder)
        if path is None:
            raise InputError(
                f"{folder} contains no copy of {declaration.name}: neither {folder / declaration.name} nor "
                f"{folder / declaration.source} exists; copy the dataset {declaration.source} to one of them"
            )
    try:
        options = _hub_options(declaration) if path is None else _local_options(declaration, path)
        parts: list[Rows] = datasets.load_dataset(**options, split=list(declaration.splits))
    except InputError:
        raise
    except Exception as error:  # the library raises many unrelated types
        _raise_input_error(declaration, path, error)
    return parts


def _hub_options(declaration: Declaration) -> dict[str, Any]:
    """Arguments of `datasets.load_dataset` for a dataset of the hub."""
    return {"path": declaration.source, "name": declaration.config, "revision": declaration.revision}


def _local_options(declaration: Declaration, path: Path) -> dict[str, Any]:
    """Arguments of `datasets.load_dataset` for a file, or a folder laid out as on the hub or with a file per split."""
    import datasets

    if not path.exists():
        raise InputError(f"{declaration.name} has no data: {path} does not exist; check `source`")
    if path.is_file():
        builder = _BUILDERS.get(Path(path.name.removesuffix(".gz")).suffix)
        if builder is None:
            raise InputError(f"cannot read {path}: its name must end in {', '.join(_BUILDERS)}")
        return {"path": builder, "data_files": {name: str(path) for name in declaration.splits}}
    if declaration.config and (path / "README.md").is_file():
        configs = datasets.get_dataset_config_names(str(path))
        return {"path": str(path), "name": declaration.config if configs != ["default"] else None}
    inner = path / (declaration.config or "")
    return {"path": str(inner if inner.is_dir() else path)}


def _raise_input_error(declaration: Declaration, path: Path | None, error: Exception) -> NoReturn:
    """Raise an error of the library as an InputError that says what to do."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    message = " ".join(str(error).split()).rstrip(".")[:_QUOTED_CHARS]
    use_copy = f"pass a folder with a copy of it (--data DIR, with the data in DIR/{declaration.name})"
    if path is not None:
        raise InputError(f"cannot read {declaration.name} from {path}: {message}") from error
    if isinstance(error, GatedRepoError) or (isinstance(error, DatasetNotFoundError) and "gated" in message):
        raise InputError(
            f"{declaration.name} is gated: accept its terms at {declaration.link or declaration.source} and log in "
            f"(`hf auth login`), or {use_copy}"
        ) from error
    # For an unreachable hub the library raises FileNotFoundError; only its message shows the cause.
    unreachable = isinstance(error, FileNotFoundError) and "LocalEntryNotFoundError" in message
    if unreachable or isinstance(error, ConnectionError | TimeoutError | HfHubHTTPError):
        reason = "no response" if unreachable else message
        raise InputError(
            f"cannot reach the hub for {declaration.name} ({reason}); try again later, or {use_copy}"
        ) from error
    raise InputError(f"cannot load {declaration.name} from {declaration.source}: {message}; {use_copy}") from error
