"""Find the rollouts of a memory that training data can be made of, each with its reward and the source of the reward.

The reward of a rollout is, in this order,

    ground_truth, person   its label
    remembered             the verdict on its answer; where a query has one right answer and that is known, 0 for others
    predicted              the probability that the reward model gave it (`memstore score`)

Audit queries are never among them (`memstore.labels.audit`), nor are rollouts without a readable answer, rollouts that
were cut off, and rollouts without a reward. How many were left out for each reason is counted. No text is read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from memstore.errors import InputError, ModelError
from memstore.graph.protocol import EdgeTable
from memstore.graph.verdicts import ONE_RIGHT_VALUE, RIGHT
from memstore.records.record import TRUNCATED
from memstore.types import AUDIT_SPLIT
from memstore_gnn.scoring.score import PREDICTED, REMEMBERED
from memstore_rl.inspector.source import Source
from memstore_schema.columns import EdgeType, NodeLabel

TRAIN = "train"
"""Split of a query that no source puts in a split."""
_COLUMNS = ["id", "policy", "run", "step", "sample_index", "reward", "reward_source", "finish_reason", "vector_key"]


@dataclass(frozen=True)
class Wanted:
    """Which rollouts are exported."""

    model: str | None = None
    """Id of the reward model whose probabilities count, or its beginning; None: the model in use."""
    datasets: Sequence[str] = ()
    """Only queries of these datasets; none: of all."""
    splits: Sequence[str] = (TRAIN,)
    """Only queries in these splits. A query without a split is in `train`; all splits of a query must be wanted."""
    hidden_runs: Sequence[str] = ()
    """Leave out the queries that these runs attempted, such as those of an evaluation."""


class Query(NamedTuple):
    """A query: its id, and what its rows say about it."""

    id: str
    dataset: str
    key: str | None
    domain: str
    split: str
    rollouts: int
    """Rollouts that the memory has of it."""


class Candidate(NamedTuple):
    """A rollout with a reward."""

    id: str
    answer: str
    """Id of its answer."""
    text_key: str | None
    """Content hash of its thinking, or of the answer if the thinking is blank."""
    reward: float
    """0..1, see the module's docstring."""
    source: str
    """Source of the reward."""
    probability: float | None
    """The probability that the model gave it; None if the model has not scored it."""
    votes: int
    """Rollouts of the query that give this answer, itself included."""
    policy: str | None
    run: str | None
    step: int | None
    sample_index: int | None


@dataclass(frozen=True)
class Candidates:
    """The rollouts that training data can be made of."""

    groups: Mapping[Query, list[Candidate]]
    """By query, in the order of the queries' ids."""
    model: str | None
    """Id of the model whose probabilities count; None if the memory has no model."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rollouts that are left out by reason: audit, hidden, dataset, split, no_answer, cut_off, no_reward."""


def find_candidates(source: Source, wanted: Wanted) -> Candidates:
    """Find the rollouts with a reward.

    Raises:
        InputError: the memory has no rollouts, no reward, or nothing in these datasets, splits or runs.
        ModelError: the memory has no such model.
    """
    queries = source.nodes(NodeLabel.QUERY, ["id", "domain"]).to_pylist()
    rollouts = source.nodes(NodeLabel.THINKING, _COLUMNS).to_pylist()
    if not rollouts:
        raise InputError(f"{source.name} has no rollouts to export; add some with `memstore ingest`")
    names = _Names(source)
    names.check(source.name, wanted)
    rewards = _Rewards(source, queries, wanted.model)
    generates = source.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    of_query = np.bincount(generates.source, minlength=len(queries)).tolist()
    hidden = _hidden(source.name, generates, rollouts, wanted.hidden_runs)
    groups: dict[int, list[Candidate]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for query, row in zip(generates.source.tolist(), generates.target.tolist(), strict=True):
        rollout = rollouts[row]
        why = "hidden" if query in hidden else names.why_not(query, wanted) or rewards.why_not(query, row, rollout)
        if why is None:
            groups[query].append(rewards.candidate(query, row, rollout))
        else:
            left_out[why] += 1
    _check(source.name, groups, left_out)
    found = {names.query(row, queries[row], of_query[row]): groups[row] for row in sorted(groups)}
    return Candidates(found, rewards.model, left_out)


def _check(name: str, groups: Mapping[int, object], left_out: Counter[str]) -> None:
    if groups:
        return
    if left_out["no_reward"]:
        raise InputError(
            f"no rollout of {name} that could be exported has a reward; score them with `memstore score`, or label some"
        )
    reasons = ", ".join(f"{count:,} {REASONS[why]}" for why, count in left_out.most_common())
    raise InputError(f"no rollout of {name} is left to export: {reasons}")


REASONS = {
    "audit": "of audit queries",
    "hidden": "of queries of a hidden run",
    "dataset": "of other datasets",
    "split": "of other splits",
    "no_answer": "without a readable answer",
    "cut_off": "cut off by the length limit",
    "no_reward": "without a reward",
}
"""Why rollouts are left out, as sentences name them."""


def _hidden(
    name: str, generates: EdgeTable, rollouts: Sequence[Mapping[str, Any]], runs: Sequence[str]
) -> frozenset[int]:
    """Positions of the queries that these runs attempted."""
    if unknown := sorted(set(runs) - {rollout["run"] for rollout in rollouts}):
        raise InputError(f"{name} has no run {unknown[0]!r} whose queries could be left out; check its name")
    pairs = zip(generates.source.tolist(), generates.target.tolist(), strict=True)
    return frozenset(query for query, row in pairs if rollouts[row]["run"] in runs)


class _Names:
    """Datasets, keys and splits of queries."""

    def __init__(self, source: Source) -> None:
        self._datasets = source.nodes(NodeLabel.DATASET, ["name"])["name"].to_pylist()
        edges = source.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, ["key", "split"])
        keys, splits = (edges.properties[name].to_pylist() for name in ("key", "split"))
        self._of: dict[int, list[tuple[str, str | None]]] = defaultdict(list)
        self._splits: dict[int, set[str]] = defaultdict(set)
        for query, dataset, key, split in zip(edges.source.tolist(), edges.target.tolist(), keys, splits, strict=True):
            self._of[query].append((self._datasets[dataset], key))
            if split:
                self._splits[query].add(split)

    def check(self, name: str, wanted: Wanted) -> None:
        """Refuse datasets and splits that the memory does not have."""
        if unknown := sorted(set(wanted.datasets) - set(self._datasets)):
            known = ", ".join(sorted(self._datasets))
            raise InputError(f"{name} has no dataset {unknown[0]!r}; it has {known}")
        if AUDIT_SPLIT in wanted.splits:
            raise InputError("audit queries are kept for measuring and never exported for training; name another split")
        known_splits = {TRAIN}.union(*self._splits.values()) - {AUDIT_SPLIT}
        if unknown := sorted(set(wanted.splits) - known_splits):
            raise InputError(f"{name} has no split {unknown[0]!r}; it has {', '.join(sorted(known_splits))}")

    def why_not(self, query: int, wanted: Wanted) -> str | None:
        """Why the rollouts of a query are left out; None if they are not."""
        splits = self._splits.get(query) or {TRAIN}
        if AUDIT_SPLIT in splits:
            return "audit"
        if wanted.datasets and not any(dataset in wanted.datasets for dataset, _ in self._of[query]):
            return "dataset"
        return None if splits <= set(wanted.splits) else "split"

    def query(self, row: int, values: Mapping[str, Any], rollouts: int) -> Query:
        """The query at a position."""
        dataset, key = min(self._of[row], key=lambda one: (one[0], one[1] is None, one[1] or ""), default=("", None))
        # Of several splits, the one that is not for training says more.
        split = min(self._splits.get(row) or {TRAIN}, key=lambda one: (one == TRAIN, one))
        return Query(values["id"], dataset, key, values["domain"], split, rollouts)


class _Rewards:
    """Answers, verdicts and scores of rollouts."""

    def __init__(self, source: Source, queries: Sequence[Mapping[str, Any]], model: str | None) -> None:
        answers = source.nodes(NodeLabel.ANSWER, ["id", "verdict"])
        self._answer_ids, self._verdicts = answers["id"].to_pylist(), answers["verdict"].to_pylist()
        leads = source.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
        self._answer = dict(zip(leads.source.tolist(), leads.target.tolist(), strict=True))
        self._votes = np.bincount(leads.target, minlength=len(self._answer_ids)).tolist()
        self._settled = self._settled_queries(source, queries)
        self.model, self._scores = _scores(source, model)

    def _settled_queries(self, source: Source, queries: Sequence[Mapping[str, Any]]) -> frozenset[int]:
        """Queries with one right answer that is known."""
        generates = source.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
        pairs = zip(generates.source.tolist(), generates.target.tolist(), strict=True)
        return frozenset(
            query
            for query, row in pairs
            if queries[query]["domain"] in ONE_RIGHT_VALUE
            and row in self._answer
            and (self._verdicts[self._answer[row]] or 0.0) > RIGHT
        )

    def why_not(self, query: int, row: int, rollout: Mapping[str, Any]) -> str | None:
        """Why a rollout is left out; None if it is not."""
        if rollout["finish_reason"] == TRUNCATED:
            return "cut_off"
        if row not in self._answer:
            return "no_answer"
        return "no_reward" if self._reward(query, row, rollout) is None else None

    def candidate(self, query: int, row: int, rollout: Mapping[str, Any]) -> Candidate:
        """A rollout that `why_not` does not leave out."""
        rewarded, answer = self._reward(query, row, rollout), self._answer[row]
        assert rewarded is not None
        score = self._scores.get(row)
        return Candidate(
            rollout["id"],
            self._answer_ids[answer],
            rollout["vector_key"],
            *rewarded,
            score[0] if score is not None and score[1] == PREDICTED else None,
            self._votes[answer],
            *(rollout[name] for name in ("policy", "run", "step", "sample_index")),
        )

    def _reward(self, query: int, row: int, rollout: Mapping[str, Any]) -> tuple[float, str] | None:
        """Reward of a rollout and its source."""
        if rollout["reward"] is not None:
            return rollout["reward"], rollout["reward_source"] or "ground_truth"
        verdict = self._verdicts[self._answer[row]]
        if verdict is not None:
            return verdict, REMEMBERED
        if query in self._settled:
            return 0.0, REMEMBERED
        return self._scores.get(row)


def _scores(source: Source, wanted: str | None) -> tuple[str | None, dict[int, tuple[float, str]]]:
    """The id of a model, and the newest probability that it gave to each rollout (position) with its source."""
    models = source.nodes(NodeLabel.REWARD_MODEL, ["id"])["id"].to_pylist()
    if wanted is None:
        model = source.model_in_use()
    else:
        found = [name for name in models if name == wanted] or [name for name in models if name.startswith(wanted)]
        if len(found) != 1:
            known = f"it has {', '.join(models)}" if models else "it has none yet; train one with `memstore train`"
            problem = f"several reward models {wanted!r}" if found else f"no reward model {wanted!r}"
            raise ModelError(f"{source.name} has {problem}; {known}")
        [model] = found
    if model is None:
        return None, {}
    edges = source.edges(
        EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL, ["probability", "source", "scored_at"]
    )
    mine = np.flatnonzero(edges.target == models.index(model))
    rows = edges.properties.take(mine).to_pylist()
    dated = sorted(
        zip(edges.source[mine].tolist(), rows, strict=True), key=lambda one: (one[0], str(one[1]["scored_at"]))
    )
    return model, {position: (row["probability"], row["source"] or PREDICTED) for position, row in dated}
