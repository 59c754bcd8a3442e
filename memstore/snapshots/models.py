"""Files of reward models beside a snapshot: copied when it is taken, and put back when it is restored."""

from __future__ import annotations

import shutil
from collections.abc import Container
from pathlib import Path

from memstore.snapshots.atomic_folder import atomic_folder, remove_abandoned

FOLDER = "models"
"""Folder of the models in a snapshot's folder, as in a memory's."""


def copy_models(source: Path, target: Path, names: Container[str] | None = None) -> list[str]:
    """Copy the model folders of `source` that `target` lacks, each of them atomically; return their names.

    Args:
        source: a `models` folder; it need not exist.
        target: the `models` folder to add to.
        names: copy only these; None: all.
    """
    copied = []
    for model in sorted(source.iterdir()) if source.is_dir() else []:
        destination = target / model.name
        if model.name.startswith(".") or not model.is_dir() or (names is not None and model.name not in names):
            continue
        if destination.exists():
            remove_abandoned(destination)
            continue
        with atomic_folder(destination, "model") as building:
            shutil.copytree(model, building, dirs_exist_ok=True)
        copied.append(model.name)
    return copied
