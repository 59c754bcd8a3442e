"""Score rollouts with a reward model, in the memory or outside of it.

A rollout whose answer the memory knows gets the remembered verdict (`memstore_gnn.scoring.remembered`); a model
predicts the others. Labels and neighbours come from the memory. If all rollouts of a group decline to answer, they get
the mean of the labels (`memstore_gnn.scoring.declined`), and the log says so.

A group is predicted alone. The other stored rollouts of its query then count by the reliability of their policies
(`memstore_gnn.scoring.other_policies`). This holds for groups of the memory, of a file and of the reward service: with
the same stored rollouts, a rollout has the same score. A group is what one policy sampled together for a query, in one
run and at one step. In a memory, all rollouts of a query are one group where votes of others do not count.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.html_table import html_table
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import Contents
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts, subgraph
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.separate import separate_groups
from memstore_gnn.data.verdicts import Verdicts, verdicts_of
from memstore_gnn.data.visibility import Visible
from memstore_gnn.models.inputs import labelled_contents
from memstore_gnn.models.reward_model import LabelContext, RewardModel
from memstore_gnn.scoring.declined import in_declining_group, mean_label
from memstore_gnn.scoring.other_policies import StoredVotes, stored_votes
from memstore_gnn.scoring.remembered import Judge, given_of, recall

logger = logging.getLogger(__name__)

PREDICTED, GROUND_TRUTH, REMEMBERED = "predicted", "ground_truth", "remembered"
BLOCK = 16_384
"""Rollouts that are predicted at once, about."""
SHOWN_ROWS = 20
"""Rollouts in the HTML table of `Scores` at most."""


class Scores(NamedTuple):
    """Scores of N rollouts.

    Attributes:
        id: str [N], rollout ids.
        probability: float64 [N], calibrated probability that the rollout is right; of a remembered one, the verdict.
        reward: float64 [N], reward for policy optimisation: the label if the memory has one, otherwise the probability.
        source: str [N], source of `reward`: `ground_truth`, `remembered` or `predicted`; `memstore_gnn.scoring.abstain`
            adds others.
        judged_by, judged_at: str [N], who judged the remembered answer and when (`memstore_gnn.data.verdicts.Verdict`);
            None elsewhere.
    """

    id: NDArray[np.object_]
    probability: FloatVector
    reward: FloatVector
    source: NDArray[np.object_]
    judged_by: NDArray[np.object_]
    judged_at: NDArray[np.object_]

    def __repr__(self) -> str:
        names, counts = np.unique(self.source.astype(str), return_counts=True)
        sources = ", ".join(f"{count:,} {name}" for name, count in zip(names, counts, strict=True))
        mean = f", mean probability {self.probability.mean():.3f}" if len(self.id) else ""
        return f"Scores({len(self.id):,} rollouts{': ' if sources else ''}{sources}{mean})"

    def _repr_html_(self) -> str:
        rows = list(zip(*(column[:SHOWN_ROWS].tolist() for column in self), strict=True))
        caption = f"{len(self.id):,} rollouts" + (f", the first {SHOWN_ROWS}" if len(self.id) > SHOWN_ROWS else "")
        return html_table(self._fields, rows, title=caption)


def score_memory(
    model: RewardModel,
    snapshot: Snapshot,
    wanted: BoolVector | None = None,
    *,
    reward: FloatVector | None = None,
    context: LabelContext | None = None,
    verdicts: Verdicts | None = None,
    judge: Judge | None = None,
    stored: StoredVotes | None = None,
    contents: Contents | None = None,
) -> Scores:
    """Score rollouts of a memory, in the order of its thinkings, without the labels of their own query.

    Args:
        wanted: bool [T], the rollouts to score; None scores those without a label.
        reward: float64 [T], labels that the model may use, NaN elsewhere; None uses the memory's ground truth.
        context: `model.label_context` of this memory, if already computed.
        verdicts: verdicts that may be recalled, see `memstore_gnn.data.verdicts`; None recalls none.
        judge: compares answers with the reference answers in `verdicts`.
        stored: `stored_votes(snapshot, verdicts)`, if already computed.
        contents: adds texts and vectors to a part of the snapshot, if it is an outline; parts are read one at a time.

    Raises:
        ModelError: the model does not fit the memory.
    """
    labels = rewards_of(snapshot) if reward is None else reward
    wanted = ~np.isfinite(labels) if wanted is None else wanted
    context = context or model.label_context(*labelled_contents(snapshot, labels, contents))
    stored = stored or stored_votes(snapshot, verdicts or Verdicts())
    group = memory_groups(snapshot, stored)
    read = _Read(wanted, np.isin(group, group[wanted]), group, labels)
    return _score(model, context, snapshot, read, stored, mean_label(labels), contents, verdicts, judge)


def predict_memory(model: RewardModel, snapshot: Snapshot, reward: FloatVector, wanted: BoolVector) -> FloatVector:
    """Probabilities that `score_memory` gives to rollouts whose answers nothing is remembered of, float64 [wanted].

    Args:
        reward: float64 [T], labels that the model may use, NaN elsewhere.
        wanted: bool [T].

    Raises:
        ModelError: the model does not fit the memory.
    """
    stored = stored_votes(snapshot, verdicts_of(snapshot, Visible.of(snapshot, reward)))
    return score_memory(model, snapshot, wanted, reward=reward, stored=stored).probability


def memory_target(snapshot: Snapshot, wanted: BoolVector) -> Snapshot:
    """Select the queries of these rollouts (bool [T]) of a memory, with all their rollouts."""
    queries = np.unique(query_of_thinkings(snapshot)[wanted])
    return subgraph(snapshot, snapshot.queries["id"].to_numpy()[queries].tolist())


def memory_groups(snapshot: Snapshot, stored: StoredVotes) -> IntVector:
    """Group of each rollout of a memory, int64 [T]; see the module's docstring."""
    groups = groups_of(snapshot)
    voted = np.isin(snapshot.queries["id"].to_numpy(), list(stored.rows))[groups.query_of]
    return np.where(voted, snapshot.queries.num_rows + groups.policy_group.cell, groups.query_of)


def score_rollouts(
    model: RewardModel,
    snapshot: Snapshot,
    new: Snapshot,
    *,
    reward: FloatVector | None = None,
    context: LabelContext | None = None,
    verdicts: Verdicts | None = None,
    judge: Judge | None = None,
    stored: StoredVotes | None = None,
) -> Scores:
    """Score rollouts that need not be in the memory, in the order of `new.thinkings`, without adding them.

    Args:
        new: the rollouts as a snapshot of their own, see `memstore.memory.Memory.read_rollouts`; its rewards are not
            read.
        reward, context, verdicts, judge: as in `score_memory`.
        stored: stored rollouts as votes, see `memstore_gnn.scoring.other_policies`; None counts none.

    Raises:
        ModelError: the model does not fit the memory or the new rollouts.
    """
    labels = rewards_of(snapshot) if reward is None else reward
    context = context or model.label_context(snapshot, labels)
    group = groups_of(new).policy_group.cell
    every = np.ones(len(group), np.bool_)
    read = _Read(every, every, group, np.full(len(group), np.nan))
    return _score(model, context, new, read, stored, mean_label(labels), None, verdicts, judge)


def predict_groups(
    model: RewardModel,
    context: LabelContext,
    target: Snapshot,
    stored: StoredVotes | None,
    group: IntVector | None = None,
) -> FloatVector:
    """Probability of each rollout, float64 [T]: that of its group alone, combined with the votes of stored rollouts.

    Every path of scoring ends here.

    Args:
        stored: None counts no votes.
        group: int64 [T], group of each rollout; None: one group a query.

    Raises:
        ModelError: as `RewardModel.predict`.
    """
    alone = model.predict(target if group is None else separate_groups(target, group), context)
    return alone if stored is None else stored.adjust(alone, target, model.correction, group)


class _Read(NamedTuple):
    """What is scored of a snapshot.

    Attributes:
        wanted: bool [T], the rollouts to score.
        needed: bool [T], the rollouts of their groups.
        group: int64 [T].
        label: float64 [T], NaN for a rollout without one.
    """

    wanted: BoolVector
    needed: BoolVector
    group: IntVector
    label: FloatVector


def _score(
    model: RewardModel,
    context: LabelContext,
    snapshot: Snapshot,
    read: _Read,
    stored: StoredVotes | None,
    prior: float,
    contents: Contents | None,
    verdicts: Verdicts | None,
    judge: Judge | None,
) -> Scores:
    """Scores of the wanted rollouts in their order; `prior` is the probability in a group that declines to answer."""
    count, declined = len(read.group), 0
    made = _scores(snapshot, np.full(count, np.nan), read.label)
    for rows, part in _blocks(snapshot, read.needed, contents):
        wanted, group = read.wanted[rows], read.group[rows]
        scores = _scores(part, predict_groups(model, context, part, stored, group), read.label[rows])
        open_ = wanted & (scores.source == PREDICTED)
        without = open_ & in_declining_group(part, group)
        declined += int(without.sum())
        scores.probability[without] = scores.reward[without] = prior
        _recall(scores, part, open_, verdicts, judge)
        for column, values in zip(made, scores, strict=True):
            column[rows] = values
    if declined:
        logger.warning(
            "%d rollouts are in groups that all decline to answer, so their probability is the mean of the labels, "
            "%.3f",
            declined,
            prior,
        )
    return Scores._make(column[read.wanted] for column in made)


def _blocks(snapshot: Snapshot, needed: BoolVector, contents: Contents | None) -> Iterator[tuple[BoolVector, Snapshot]]:
    """Parts of the needed rollouts (bool [T]), and which rollouts these are (bool [T]).

    Blocks of whole queries bound the memory that texts, vectors, features and votes take.
    """
    query_of = query_of_thinkings(snapshot)
    block = (np.cumsum(np.bincount(query_of[needed], minlength=snapshot.queries.num_rows)) // BLOCK)[query_of]
    for one in np.unique(block[needed]):
        rows = needed & (block == one)
        part = snapshot if rows.all() else some_rollouts(snapshot, rows)  # features are cached by snapshot object
        yield rows, part if contents is None else contents(part)


def _scores(target: Snapshot, probability: FloatVector, label: FloatVector) -> Scores:
    """Scores of all rollouts of `target`; `probability` and `label` are float64 [T], NaN for one without a label."""
    labelled = np.isfinite(label)
    source = np.where(labelled, GROUND_TRUTH, PREDICTED).astype(np.object_)
    reward, nobody = np.where(labelled, label, probability), np.full((2, len(label)), None, np.object_)
    return Scores(target.thinkings["id"].to_numpy(), probability, reward, source, *nobody)


def _recall(
    scores: Scores, target: Snapshot, open_: BoolVector, verdicts: Verdicts | None, judge: Judge | None
) -> None:
    """Replace the predictions of `open_` rollouts (bool [T]) of `target` by remembered verdicts."""
    rows = np.flatnonzero(open_)
    if verdicts is None or not len(rows):
        return
    given = given_of(target)
    for row, verdict in zip(rows.tolist(), recall(verdicts, [given[row] for row in rows], judge), strict=True):
        if verdict is not None:
            scores.probability[row] = scores.reward[row] = verdict.value
            scores.source[row], scores.judged_by[row], scores.judged_at[row] = REMEMBERED, *verdict[1:]
