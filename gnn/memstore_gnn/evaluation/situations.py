"""Evaluate how well a memory predicts the rewards of new policies, by what it has of their queries.

The policies of a memory are split into halves, by name whatever their steps. The rollouts of one half are in the
memory, those of the other half are new. The situations differ in what the memory has of a new rollout's query:

    labelled    rollouts of other policies, all of them labelled
    partly      the same, labelled for a share of the queries
    unlabelled  the same, without a label anywhere
    unseen      nothing: the memory has the stored half's rollouts of other queries, a share of them labelled

A memory whose rollouts all come from one policy is split by sample index instead. Rules that need no model are measured
beside the reward model (`RULES`). A rule sees the labels of the stored half only, never one of a new rollout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.baselines.knn import NearestNeighbours
from memstore_gnn.data.groups import answer_of_thinkings, groups_of, query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.overlay import ingested, overlay
from memstore_gnn.data.verdicts import Verdicts, verdicts_of
from memstore_gnn.data.visibility import Visible, audit_queries
from memstore_gnn.evaluation.evaluate import with_rewards
from memstore_gnn.features.dawid_skene import NOBODY, Ballots, fit_reliabilities, posterior_of
from memstore_gnn.metrics import advantage_soft, auc, ece
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.scoring.other_policies import stored_votes
from memstore_gnn.scoring.remembered import given_of, recall
from memstore_gnn.scoring.score import score_memory, score_rollouts
from memstore_gnn.training.fit import fit, fit_prior

PARTLY = 0.2
"""Share of the queries that is labelled in the situations `partly` and `unseen`."""


class Situation(NamedTuple):
    """What the memory has of a new rollout's query."""

    name: str
    labelled: float
    """Share of the stored queries whose labels may be seen."""
    seen: bool = True
    """Whether the memory has rollouts of the query."""


SITUATIONS = (
    Situation("labelled", 1.0),
    Situation("partly", PARTLY),
    Situation("unlabelled", 0.0),
    Situation("unseen", PARTLY, seen=False),
)


@dataclass(frozen=True)
class Case:
    """A memory and new rollouts, in one situation.

    Attributes:
        memory: the stored half, with the visible rewards and without gold answers.
        new: the new half, without rewards or gold answers.
        reward: float64 [stored rollouts], the visible labels, NaN elsewhere.
        truth: float64 [new rollouts], their rewards, in the order of `new.thinkings`; no rule reads it.
        seed: seed of the split and of the training.
        device: `cpu` or `cuda`; None takes a GPU if there is one.
    """

    memory: Snapshot
    new: Snapshot
    reward: FloatVector
    truth: FloatVector
    seed: int
    device: str | None = None

    @cached_property
    def verdicts(self) -> Verdicts:
        """The verdicts on answers that may be recalled."""
        return verdicts_of(self.memory, Visible.of(self.memory, self.reward))

    @cached_property
    def together(self) -> Snapshot:
        """The new rollouts and the stored ones of their queries."""
        return overlay(self.memory, self.new)

    @cached_property
    def model(self) -> RewardModel:
        """A reward model of the memory: trained on its visible labels; without one, the prior of the package."""
        if not np.isfinite(self.reward).any():
            return fit_prior(self.memory, SharedPrior.shipped(), seed=self.seed, device=self.device)
        return fit(self.memory, self.reward, seed=self.seed, device=self.device)


class SituationRow(NamedTuple):
    """Figures of a rule in a situation, for one split of the policies."""

    situation: str
    rule: str
    seed: int
    queries: int
    rollouts: int
    auc: float
    advantage_soft: float
    ece: float
    gap: float
    """Mean over right rollouts less mean over wrong ones, of the probability less the share of votes, in the groups
    whose most frequent answer is wrong. NaN if there is no such group."""

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object; an undefined figure is null."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in self._asdict().items()}


def cases_of(snapshot: Snapshot, situation: Situation, seed: int, device: str | None = None) -> list[Case]:
    """Split a memory's policies into halves; each half is new in one of the two cases.

    Labels of audit queries are visible to no rule; their new rollouts are measured like all others.

    Raises:
        InputError: the memory has labelled rollouts of one policy with one sample index only.
    """
    chance = np.random.default_rng(seed)
    unit = _units(snapshot)
    names = int(unit.max(initial=-1)) + 1
    if names < 2:
        raise InputError(
            "the memory has rollouts of one policy with one sample index, so they cannot be split into stored and new "
            "ones; ingest rollouts of another policy"
        )
    first = np.isin(unit, chance.permutation(names)[: names // 2])
    labelled = chance.random(snapshot.queries.num_rows) < situation.labelled
    kept = chance.random(snapshot.queries.num_rows) < (1.0 if situation.seen else 0.5)
    query, judged = query_of_thinkings(snapshot), np.isfinite(rewards_of(snapshot))
    in_memory, asked = kept[query], (kept if situation.seen else ~kept)[query] & judged
    visible = np.where((labelled & ~audit_queries(snapshot))[query], rewards_of(snapshot), np.nan)
    return [_case(snapshot, ~new & in_memory, new & asked, visible, seed, device) for new in (first, ~first)]


def _units(snapshot: Snapshot) -> IntVector:
    """What is split: the policy of each rollout, or its sample index if there is one policy. int64 [T]."""
    for name in ("policy", "sample_index"):
        _, unit = np.unique(
            np.array([str(value) for value in snapshot.thinkings[name].to_pylist()]), return_inverse=True
        )
        if unit.max(initial=0) > 0:
            break
    return np.asarray(unit, np.int64)


def _case(
    snapshot: Snapshot, stored: BoolVector, new: BoolVector, visible: FloatVector, seed: int, device: str | None
) -> Case:
    """Hide what may not be seen. Parts of a snapshot keep the order of its thinkings."""
    return Case(
        with_rewards(some_rollouts(snapshot, stored), visible[stored]),
        with_rewards(some_rollouts(snapshot, new), np.full(int(new.sum()), np.nan)),
        visible[stored],
        rewards_of(snapshot)[new],
        seed,
        device,
    )


# -- rules ----------------------------------------------------------------------------------------------------------


def votes_of_group(case: Case) -> FloatVector:
    """Share of the new rollouts of the query that give the answer."""
    return _share(case.new)


def votes_of_all(case: Case) -> FloatVector:
    """Share of all rollouts of the query that give the answer."""
    return _of_new(case, _share(case.together))


def dawid_skene(case: Case) -> FloatVector:
    """Posterior of each new rollout's answer by all votes, each weighted by the reliability of its policy.

    Labels enter the reliabilities only.
    """
    together, answer = case.together, answer_of_thinkings(case.together)
    query, answers = query_of_thinkings(together), together.answers.num_rows
    of_answer = np.zeros(answers, np.int64)
    of_answer[answer[answer >= 0]] = query[answer >= 0]
    _, policy = np.unique(np.array(together.thinkings["policy"].to_pylist(), str), return_inverse=True)
    policies = int(policy.max(initial=0)) + 1
    ballots = Ballots(policy, answer, query * policies + policy, of_answer)
    known = case.verdicts.answers
    judged = [known.get(name) for name in together.answers["id"].to_pylist()]
    verdict = np.array([np.nan if one is None else one.value for one in judged], np.float64)
    found = fit_reliabilities(ballots, verdict, policies)
    answered = answer >= 0
    evidence = (found.evidence(found.policy)[policy] * ballots.share)[answered]
    support = np.bincount(answer[answered], evidence, answers)
    unknown = np.full(answers, np.nan)
    posterior = posterior_of(np.asarray(support, np.float64), of_answer, together.queries.num_rows, unknown, NOBODY)
    return _of_new(case, np.where(answered, posterior[answer], 0.0))


def known_answers(case: Case) -> FloatVector:
    """Verdicts on answers where the memory has one, `dawid_skene` for the others."""
    return _recalled(case, dawid_skene(case))


def nearest(case: Case) -> FloatVector:
    """The kNN baseline, see `memstore_gnn.baselines.knn`."""
    together = case.together
    row = {name: position for position, name in enumerate(together.thinkings["id"].to_pylist())}
    reward = np.full(together.thinkings.num_rows, np.nan)
    for name, value in zip(case.memory.thinkings["id"].to_pylist(), case.reward.tolist(), strict=True):
        if name in row:
            reward[row[name]] = value
    nothing = np.zeros(together.queries.num_rows, np.bool_)
    return _of_new(case, NearestNeighbours().fit_predict(together, reward, ~nothing, nothing, case.seed))


def reward_model(case: Case) -> FloatVector:
    """The reward model as the service uses it: remembered verdicts, other policies' votes, and the model."""
    votes = stored_votes(case.memory, case.verdicts)
    return score_rollouts(
        case.model, case.memory, case.new, reward=case.reward, verdicts=case.verdicts, stored=votes
    ).probability


def as_ingested(case: Case) -> FloatVector:
    """The reward model where all new rollouts of a query count as votes, as after an ingest."""
    laid = ingested(case.memory, case.new, case.reward)
    scores = score_memory(case.model, laid.snapshot, laid.new, reward=laid.reward, verdicts=case.verdicts)
    row = {name: position for position, name in enumerate(scores.id.tolist())}
    return scores.probability[[row[name] for name in case.new.thinkings["id"].to_pylist()]]


RULES: dict[str, Callable[[Case], FloatVector]] = {
    "votes of the group": votes_of_group,
    "votes of all": votes_of_all,
    "Dawid-Skene": dawid_skene,
    "known answers": known_answers,
    "kNN": nearest,
    "reward model": reward_model,
    "as ingested": as_ingested,
}
"""By name: the probability that each new rollout is right, float64 [new rollouts]."""


def evaluate_situations(
    snapshot: Snapshot,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    situations: Sequence[Situation] = SITUATIONS,
    rules: Sequence[str] = tuple(RULES),
    device: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[SituationRow]:
    """Measure the rules in each situation, for each seed and both orders of the halves.

    Args:
        rules: names in `RULES`.
        device: where models are trained, `cpu` or `cuda`; None takes a GPU if there is one.
        progress: called with a line after each case.

    Raises:
        InputError: there is no such rule, or the memory cannot be split (`cases_of`).
    """
    unknown = [name for name in rules if name not in RULES]
    if unknown:
        raise InputError(f"there is no rule {unknown[0]!r}; there are {', '.join(RULES)}")
    rows = []
    for situation in situations:
        for seed in seeds:
            for case in cases_of(snapshot, situation, seed, device):
                rows += [_measured(case, situation.name, name, RULES[name](case)) for name in rules]
                if progress is not None:
                    progress(f"{situation.name}, seed {seed}")
    return rows


def means(rows: Sequence[SituationRow]) -> list[SituationRow]:
    """Mean of the figures over seeds and orders, with seed -1; a NaN counts in no mean."""
    cells: dict[tuple[str, str], list[SituationRow]] = {}
    for row in rows:
        cells.setdefault((row.situation, row.rule), []).append(row)
    first = SituationRow._fields.index("auc")
    figures = {key: list(zip(*(row[first:] for row in own), strict=True)) for key, own in cells.items()}
    return [
        SituationRow(*key, -1, own[0].queries, own[0].rollouts, *map(_mean, figures[key])) for key, own in cells.items()
    ]


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _measured(case: Case, situation: str, rule: str, probability: FloatVector) -> SituationRow:
    query = query_of_thinkings(case.new)
    figures = (
        auc(probability, case.truth),
        advantage_soft(probability, case.truth, query),
        ece(probability, case.truth),
    )
    size = (len(np.unique(query)), len(query))
    return SituationRow(situation, rule, case.seed, *size, *figures, _gap(case, probability))


def _gap(case: Case, probability: FloatVector) -> float:
    """See `SituationRow.gap`."""
    groups = groups_of(case.new)
    share, query = groups.share, groups.query
    most = groups.votes >= query.maximum(groups.votes)[query.cell]
    wrong = query.sums(most * case.truth)[query.cell] == 0.0
    residual, right = probability - share, case.truth > 0.5
    if not (wrong & right).any() or not (wrong & ~right).any():
        return float("nan")
    return float(residual[wrong & right].mean() - residual[wrong & ~right].mean())


def _share(snapshot: Snapshot) -> FloatVector:
    return groups_of(snapshot).share


def _of_new(case: Case, values: FloatVector) -> FloatVector:
    """Values of the new rollouts, from those of `overlay(memory, new)`."""
    together = case.together.thinkings["id"].combine_chunks()
    row = pc.index_in(case.new.thinkings["id"].combine_chunks(), value_set=together)
    return np.asarray(values[row.to_numpy()], np.float64)


def _recalled(case: Case, otherwise: FloatVector) -> FloatVector:
    """The remembered verdict of each new rollout, `otherwise` where there is none."""
    found = recall(case.verdicts, given_of(case.new))
    return np.array([value if one is None else one.value for one, value in zip(found, otherwise, strict=True)])
