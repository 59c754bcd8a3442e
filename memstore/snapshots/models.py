"""Files of reward models beside a snapshot: copied when it is taken, and put back when it is restored."""

from __future__ import annotations

import shutil
from pathlib import Path

from memstore.snapshots.atomic_folder import atomic_folder

FOLDER = "models"
"""Folder of the models in a snapshot's folder, as in a memory's."""


def copy_models(source: Path, target: Path) -> list[str]:
    """Copy the model folders of `source` that `target` lacks, each of them atomically; return their names.

    Args:
        source: a `models` folder; it need not exist.
        target: the `models` folder to add to.
    """
    copied = []
    for model in sorted(source.iterdir()) if source.is_dir() else []:
        destination = target / model.name
        if model.name.startswith(".") or not model.is_dir() or destination.exists():
            continue
        with atomic_folder(destination, "model") as building:
            shutil.copytree(model, building, dirs_exist_ok=True)
        copied.append(model.name)
    return copied
