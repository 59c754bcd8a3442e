"""Monitors whether scored groups vote like the groups that the reward model was trained on.

For each training dataset, and for all other datasets together, the monitor collects windows of `WINDOW` groups,
compares them with the training groups (`memstore_gnn.monitoring.agreement`) and discards them. Windows do not overlap,
and memory use is constant. When a dataset starts to drift, a warning is logged; when it stops, an info line. Rewards do
not change.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.monitoring.agreement import AGREEMENT, ANSWERS, Matrix, Move, moves, observed
from memstore_gnn.monitoring.drift import Reference

logger = logging.getLogger(__name__)

WINDOW = 128
"""Groups of a window."""
KINDS = (AGREEMENT, ANSWERS)

OnWindow = Callable[[str, str, bool], None]
"""Called for each window: dataset ("" for datasets without training groups), one of `KINDS`, whether it drifted."""


class VoteDriftMonitor:
    """Detects drift of the votes of scored groups; see the module's docstring. Thread-safe."""

    def __init__(self, reference: Reference) -> None:
        """Compare with the training groups of a model.

        Args:
            reference: statistics of the training groups.
        """
        self._reference = reference
        datasets = range(len(reference.datasets))
        self._training_votes = {row: reference.votes[reference.votes_of == row] for row in datasets}
        self._windows: defaultdict[int, list[Matrix]] = defaultdict(list)
        self._moved: dict[int, tuple[Move, ...]] = {}
        self._lock = threading.Lock()
        self.on_window: OnWindow | None = None

    def observe(self, scored: Snapshot) -> None:
        """Add scored groups, each of a different query."""
        if not self._reference.datasets:
            return
        rows, datasets = observed(scored), first_datasets(scored)
        full: list[tuple[int, Matrix]] = []
        with self._lock:
            for dataset, votes in zip(datasets, rows, strict=True):
                if not np.isfinite(votes).all():
                    continue
                row = self._reference.row(dataset)
                self._windows[row].append(votes)
                if len(self._windows[row]) == WINDOW:
                    full.append((row, np.stack(self._windows.pop(row))))
        for row, window in full:
            self._check_window(row, window)

    def _check_window(self, row: int, window: Matrix) -> None:
        found = moves(self._training_votes[row], window)
        with self._lock:
            before = self._moved.get(row, ())
            self._moved[row] = found
        name = self._reference.datasets[row]
        if found and not before:
            logger.warning("%s", _warning(name, found))
        elif before and not found:
            logger.info("the groups of %s vote like the training groups again", _name(name))
        if self.on_window is not None:
            for kind in KINDS:
                self.on_window(name, kind, any(move.what == kind for move in found))


def _warning(dataset: str, found: tuple[Move, ...]) -> str:
    changes = "; ".join(move.description() for move in found)
    return (
        f"the last {WINDOW} groups of {_name(dataset)} vote differently from the training groups ({changes}), so "
        "predicted rewards may be inaccurate; label some of the new queries and train again"
    )


def _name(dataset: str) -> str:
    return repr(dataset) if dataset else "datasets that the model was not trained on"
