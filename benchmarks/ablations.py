"""Ablations of the reward model, as predictors: the model without one of its parts.

The model is both trained and used without the part. A part is removed where it enters: neighbours at their lookup,
votes where rollouts are grouped by answer, and features in the feature table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import Groups, Partition
from memstore_gnn.data.neighbours import Labelled, NearBoth, Nearest, Rows
from memstore_gnn.data.predictor import Predictor
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.evaluation.own_model import OwnModel
from memstore_gnn.explain.families import family_of
from memstore_gnn.features import assemble
from memstore_gnn.features.line_labels import Lines
from memstore_gnn.features.program_votes import Behaviour
from memstore_gnn.features.reliability import ReliabilityModel
from memstore_gnn.models import inputs

Patch = AbstractContextManager[Any]
SIBLINGS = ("numbers_shared", "numbers_least_shared", "numbers_covered", "value_among_siblings", "same_tree",
            "cosine_centre", "cosine_group", "cosine_same_less_other", "length_z")  # fmt: skip
"""Features that compare siblings, in addition to those with `-group` in their name."""
WRITTEN = ("equations", "numbers", "length", "wording", "program")


@dataclass(frozen=True)
class Without:
    """The model, trained and used under `patches`, on a snapshot changed by `change`."""

    name: str
    patches: Callable[[], Iterable[Patch]]
    change: Callable[[Snapshot], Snapshot] = replace
    """Returns a copy at least, because features are cached by snapshot."""

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        with ExitStack() as stack:
            for one in self.patches():
                stack.enter_context(one)
            return OwnModel(device="cpu").fit_predict(self.change(snapshot), reward, train, select, seed)


def _similarity() -> Iterable[Patch]:
    """Remove all neighbours."""

    def none(queries: Labelled, thinkings: Labelled, rows: Rows, k: int) -> NearBoth:
        return NearBoth(Nearest.none(len(rows.query_x), k), Nearest.none(len(rows.thinking_x), k))

    yield patch.object(inputs, "nearest_labelled", none)


def _labels() -> Iterable[Patch]:
    """Keep the neighbours without their labels."""
    mean_label = Labelled.mean_label

    def constant(self: Labelled, near: Nearest) -> tuple[FloatVector, FloatVector]:
        return np.full(len(near.position), 0.5), mean_label(self, near)[1]

    yield patch.object(Labelled, "mean_label", constant)


def _lines() -> Iterable[Patch]:
    """Cut no thinking into lines."""

    def none(snapshot: Snapshot, groups: Groups) -> Lines:
        return Lines(pa.array([], pa.string()), np.zeros(0, np.int64), len(groups.query_of))

    yield patch.object(inputs, "read_lines", none)


def _no_vectors(snapshot: Snapshot) -> Snapshot:
    none = {name: np.zeros_like(getattr(snapshot, name)) for name in ("query_x", "thinking_x")}
    return replace(
        snapshot, **none, query_has_x=none["query_x"].any(axis=1), thinking_has_x=none["thinking_x"].any(axis=1)
    )


def _features(wanted: Callable[[str], bool]) -> Iterable[Patch]:
    """Set the wanted columns of the feature table to zero."""
    compute = assemble.compute_group_features

    def blind(snapshot: Snapshot) -> assemble.GroupFeatures:
        read = compute(snapshot)
        keep = np.array([not wanted(name) for name in read.table.names])
        return replace(read, table=FeatureTable(read.table.names, read.table.values * keep))

    for module in (assemble, inputs):
        yield patch.object(module, "compute_group_features", blind)


def _agreement() -> Iterable[Patch]:
    """Give every rollout an answer of its own."""
    groups_of, behaviour_of = assemble.groups_of, assemble.behaviour_of

    def apart(groups: Groups) -> Groups:
        alone = Partition.of(np.arange(len(groups.query_of)))
        return replace(groups, answer=alone, policy_answer=alone)

    def behaviour(snapshot: Snapshot, groups: Groups) -> Behaviour:
        made = behaviour_of(snapshot, groups)
        return replace(made, groups=apart(groups))

    yield patch.object(assemble, "groups_of", lambda snapshot: apart(groups_of(snapshot)))
    yield patch.object(assemble, "behaviour_of", behaviour)


def _skill() -> Iterable[Patch]:
    """Set the reliability of all rollouts to zero."""
    fit_reliability = assemble.fit_reliability

    def unskilled(*arguments: Any) -> Any:
        return _zeros(fit_reliability(*arguments))

    yield patch.object(assemble, "fit_reliability", unskilled)
    for name in ("predict",):
        method = getattr(ReliabilityModel, name, None)
        if method is not None:
            yield patch.object(ReliabilityModel, name, lambda *given, method=method: _zeros(method(*given)))


def _zeros(made: Any) -> Any:
    """Set an array, or all arrays of a named tuple, to zero."""
    if isinstance(made, np.ndarray):
        return np.zeros_like(made)
    return made._replace(**{k: np.zeros_like(v) for k, v in made._asdict().items() if isinstance(v, np.ndarray)})


def _behaviour() -> Iterable[Patch]:
    """Group programs by their text instead of their behaviour."""
    behaviour_of = assemble.behaviour_of

    def as_text(snapshot: Snapshot, groups: Groups) -> Behaviour:
        made = behaviour_of(snapshot, groups)
        silent = {name: np.zeros(len(groups.query_of)) for name in made.columns}
        return replace(made, groups=groups, columns=silent)

    yield patch.object(assemble, "behaviour_of", as_text)


def _group() -> Iterable[Patch]:
    """Predict each rollout by itself: no agreement, no siblings, no features relative to the group."""
    yield from _agreement()
    yield from _skill()
    yield from _features(lambda name: "-group" in name or name.startswith(SIBLINGS) or family_of(name) is None)


def _made(part: str, patches: Callable[[], Iterable[Patch]], **options: Any) -> tuple[str, Callable[[], Predictor]]:
    return f"without_{part}", partial(Without, f"without_{part}", patches, **options)


ABLATIONS: dict[str, Callable[[], Predictor]] = dict(
    (
        _made("similarity", _similarity),
        _made("labels_near", _labels),
        _made("lines", _lines),
        _made("vectors", tuple, change=_no_vectors),
        _made("agreement", _agreement),
        _made("skill", _skill),
        _made("behaviour", _behaviour),
        _made("text_evidence", lambda: _features(lambda name: family_of(name) in WRITTEN)),
        _made("equations", lambda: _features(lambda name: family_of(name) == "equations")),
        _made("group", _group),
    )
)
