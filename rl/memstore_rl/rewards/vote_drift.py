"""Do the groups that are scored vote like those that the reward model learnt from? Looked at while they are scored.

Of each dataset that the model contains, and of all others together, what `WINDOW` groups show is gathered, held against
what the model learnt from (`memstore_gnn.monitoring.agreement`), and forgotten: no group is looked at twice, and what
is held does
not grow. A dataset that begins to vote otherwise is one warning, and one that does so no longer is a line in the log.
No reward is changed.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.monitoring.agreement import AGREEMENT, ANSWERS, Matrix, Move, moves, observed
from memstore_gnn.monitoring.drift import Reference

logger = logging.getLogger(__name__)

WINDOW = 128
KINDS = (AGREEMENT, ANSWERS)

OnWindow = Callable[[str, str, bool], None]
"""Told of each window: dataset ("" for those that the model did not learn from), one of `KINDS`, has it moved?"""


class VoteDrift:
    """See the module's docstring. May be called from several threads at once."""

    def __init__(self, reference: Reference) -> None:
        """Against what a model learnt from."""
        self._reference = reference
        self._learnt = {row: reference.votes[reference.votes_of == row] for row in range(len(reference.datasets))}
        self._shown: defaultdict[int, list[Matrix]] = defaultdict(list)
        self._moved: dict[int, tuple[Move, ...]] = {}
        self._lock = threading.Lock()
        self.on_window: OnWindow | None = None

    def see(self, scored: Snapshot) -> None:
        """Look at groups that were scored, each a query of its own."""
        if not self._reference.datasets:
            return
        rows, datasets = observed(scored), scored.queries["dataset"].fill_null("").to_pylist()
        full: list[tuple[int, Matrix]] = []
        with self._lock:
            for dataset, row in zip(datasets, rows, strict=True):
                if not np.isfinite(row).all():
                    continue
                place = self._reference.row(dataset)
                self._shown[place].append(row)
                if len(self._shown[place]) == WINDOW:
                    full.append((place, np.stack(self._shown.pop(place))))
        for place, window in full:
            self._look(place, window)

    def _look(self, place: int, window: Matrix) -> None:
        found = moves(self._learnt[place], window)
        with self._lock:
            before = self._moved.get(place, ())
            self._moved[place] = found
        name = self._reference.datasets[place]
        if found and not before:
            logger.warning("%s", _warning(name, found))
        elif before and not found:
            logger.info("the groups of %s vote again like those that the model learnt from", _named(name))
        if self.on_window is not None:
            for kind in KINDS:
                self.on_window(name, kind, any(move.what == kind for move in found))


def _warning(dataset: str, found: tuple[Move, ...]) -> str:
    said = "; ".join(move.description() for move in found)
    return (
        f"the last {WINDOW} groups of {_named(dataset)} do not vote like those that the model learnt from ({said}), so "
        "predicted rewards may be off; label some of the new queries and train again"
    )


def _named(dataset: str) -> str:
    return repr(dataset) if dataset else "datasets that the model did not learn from"
