"""Convert a pickle of rollouts to JSON lines, which `memstore ingest` reads.

    python pickle_to_jsonl.py FILE NEW.jsonl

Reading a pickle runs the code in it: use this only on files that you, or someone you trust, have written. It reads
pickles of lists, of data frames and of dicts with `samples` or `rollouts`, and files of `torch.save`, such as those
that slime writes with `--save-debug-rollout-data`.
"""

from __future__ import annotations

import json
import pickle
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def load(path: Path) -> Any:
    """The object in a pickle or a file of `torch.save`."""
    if zipfile.is_zipfile(path):
        import torch

        return torch.load(path, map_location="cpu", weights_only=False)
    with path.open("rb") as file:
        return pickle.load(file)


def rows_of(value: Any) -> Iterable[Any]:
    """The rows in an object."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return list(value.to_dict(orient="records"))
    if isinstance(value, Mapping):
        return next((value[key] for key in ("samples", "rollouts", "data") if key in value), [value])
    return list(value)


def plain(value: Any) -> Any:
    """A value of JSON: arrays and tensors become lists, objects become their attributes, others texts."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return plain(vars(value)) if hasattr(value, "__dict__") else str(value)


def main() -> None:
    """Convert the file that the command line names."""
    if len(sys.argv) != 3:
        sys.exit("usage: python pickle_to_jsonl.py FILE NEW.jsonl")
    count = 0
    with Path(sys.argv[2]).open("w", encoding="utf-8") as file:
        for row in rows_of(load(Path(sys.argv[1]))):
            file.write(json.dumps(plain(row), ensure_ascii=False) + "\n")
            count += 1
    print(f"rows written to {sys.argv[2]}: {count:,}")


if __name__ == "__main__":
    main()
