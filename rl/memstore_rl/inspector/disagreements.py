"""Where a model, the labels, the votes, another model or an earlier step disagree, found in one pass over a memory.

It takes seconds in a large memory, so that pages keep the result. The largest `KEPT` disagreements of a kind are kept.
Probabilities are means over the rollouts of an answer. Remembered scores repeat labels and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.types import FloatVector, IntVector
from memstore_rl.inspector.source import Source
from memstore_schema.columns import EdgeType, NodeLabel

Kind: TypeAlias = Literal["truth", "votes", "model", "step"]
KEPT = 1_000
WRONG_BY = 0.5
"""Difference of probability and label from which a model disagrees with the truth."""
MODELS_APART = 0.1
"""Difference of the probabilities of two models from which they disagree."""
STEPS_APART = 0.5
"""Total variation distance of the answers of two steps from which they disagree."""


@dataclass(frozen=True)
class Disagreement:
    """Two opinions on the answers of a query."""

    query: str
    answers: tuple[str, str]
    """Ids: the answer that the first opinion is about, and that of the second; equal where both are about one."""
    values: tuple[float, float]
    """The two opinions: probabilities, a label, or shares."""
    gap: float
    rollouts: int
    """Rollouts of the query, or of the policy at the two steps."""
    where: str = ""
    """Policy and run of a disagreement of steps."""
    steps: tuple[int, int] = (0, 0)


class Found(NamedTuple):
    """The disagreements of a kind, the largest gap first."""

    rows: tuple[Disagreement, ...]
    total: int
    """How many there are, of which at most `KEPT` are kept."""


@dataclass(frozen=True)
class Disagreements:
    """The disagreements of a memory by kind."""

    of_kind: Mapping[Kind, Found]
    model: str | None
    other: str | None
    """The newest other model that has scored rollouts."""


@dataclass(frozen=True)
class _Read:
    """T rollouts, those without an answer left out, with A answers of Q queries."""

    query_ids: pa.ChunkedArray
    answer_ids: pa.ChunkedArray
    query: IntVector
    """int64 [A], the query of each answer."""
    votes: IntVector
    """int64 [A]."""
    size: IntVector
    """int64 [Q], rollouts with an answer."""
    label: FloatVector
    """float64 [A], mean label; NaN without."""
    rollout_answer: IntVector
    """int64 [T], -1 without an answer."""


def find_disagreements(source: Source) -> Disagreements:
    """Find the disagreements of a memory or snapshot."""
    thinkings = source.nodes(NodeLabel.THINKING, ["policy", "run", "step", "reward"])
    read = _read(source, thinkings)
    model = source.model_in_use()
    p, q, other = _probabilities(source, read, model)
    found: dict[Kind, Found] = {
        "truth": _cells(read, p, read.label, WRONG_BY),
        "votes": _votes(read, p),
        "model": _cells(read, p, q, MODELS_APART),
        "step": _steps(read, thinkings),
    }
    return Disagreements(found, model, other)


def _read(source: Source, thinkings: pa.Table) -> _Read:
    queries, answers = source.nodes(NodeLabel.QUERY, ["id"])["id"], source.nodes(NodeLabel.ANSWER, ["id"])["id"]
    generates = source.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, [])
    leads = source.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
    of_rollout = np.zeros(len(thinkings), np.int64)
    of_rollout[generates.target] = generates.source
    answer = np.full(len(thinkings), -1, np.int64)
    answer[leads.source] = leads.target
    query = np.zeros(len(answers), np.int64)
    query[leads.target] = of_rollout[leads.source]
    votes = np.bincount(leads.target, minlength=len(answers))
    label = _mean(answer, _floats(thinkings["reward"]), len(answers))
    size = np.bincount(query, votes, len(queries)).astype(np.int64)
    return _Read(queries, answers, query, votes, size, label, answer)


def _floats(column: pa.ChunkedArray) -> FloatVector:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _mean(answer: IntVector, values: FloatVector, answers: int) -> FloatVector:
    """Mean of the known values by answer, float64 [A]; NaN without one."""
    known = (answer >= 0) & ~np.isnan(values)
    count = np.bincount(answer[known], minlength=answers)
    total = np.bincount(answer[known], values[known], answers)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _probabilities(source: Source, read: _Read, model: str | None) -> tuple[FloatVector, FloatVector, str | None]:
    """Mean predicted probability of each answer by the model in use and by the newest other one, and its id."""
    nothing = np.full(len(read.votes), np.nan)
    nodes = source.nodes(NodeLabel.REWARD_MODEL, ["id", "version"]).to_pylist()
    if model is None:
        return nothing, nothing, None
    ends = EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL
    edges = source.edges(*ends, ["probability", "source"])
    predicted = pc.not_equal(edges.properties["source"], "remembered").fill_null(True).to_numpy(zero_copy_only=False)
    probability, rollouts = _floats(edges.properties["probability"]), len(read.rollout_answer)

    def of(name: str) -> FloatVector:
        at = next(row for row, node in enumerate(nodes) if node["id"] == name)
        own, values = (edges.target == at) & predicted, np.full(rollouts, np.nan)
        values[edges.source[own]] = probability[own]
        return _mean(read.rollout_answer, values, len(read.votes))

    used = {nodes[at]["id"]: nodes[at]["version"] or 0 for at in np.unique(edges.target[predicted]).tolist()}
    used.pop(model, None)
    other = max(used, key=lambda name: (used[name], name)) if used else None
    return of(model), nothing if other is None else of(other), other


def _largest(gap: FloatVector, rows: IntVector) -> IntVector:
    """The `KEPT` rows with the largest gaps, float64 [N], in their order."""
    return np.asarray(rows[np.lexsort((rows, -gap[rows]))][:KEPT], np.int64)


def _cells(read: _Read, first: FloatVector, second: FloatVector, least: float) -> Found:
    """Answers on which two opinions differ by at least this much."""
    gap = np.abs(first - second)
    rows = np.flatnonzero(gap >= least)
    kept = _largest(gap, rows).tolist()
    return Found(tuple(_row(read, (at, at), (first[at], second[at]), gap[at]) for at in kept), len(rows))


def _votes(read: _Read, p: FloatVector) -> Found:
    """Queries whose most frequent answer is not the one that the model finds most probable."""
    scored = np.flatnonzero(~np.isnan(p))
    keys = read.query[scored], -read.votes[scored], -p[scored]
    top = _first_of(read.query, scored[np.lexsort((scored, keys[2], keys[1], keys[0]))])
    best = _first_of(read.query, scored[np.lexsort((scored, keys[1], keys[2], keys[0]))])
    gap = p[best] - p[top]
    rows = np.flatnonzero(gap > 0)
    pairs = [(int(best[at]), int(top[at])) for at in _largest(gap, rows)]
    return Found(
        tuple(_row(read, pair, (p[pair[0]], p[pair[1]]), p[pair[0]] - p[pair[1]]) for pair in pairs), len(rows)
    )


def _first_of(owner: IntVector, ordered: IntVector) -> IntVector:
    """The first member of each owner, of members that are ordered by owner."""
    return np.asarray(ordered[np.flatnonzero(np.diff(owner[ordered], prepend=-1))], np.int64)


def _row(read: _Read, answers: tuple[int, int], values: tuple[float, float], gap: float) -> Disagreement:
    query = int(read.query[answers[0]])
    first, second = (str(read.answer_ids[at].as_py()) for at in answers)
    pair = float(values[0]), float(values[1])
    return Disagreement(str(read.query_ids[query].as_py()), (first, second), pair, float(gap), int(read.size[query]))


def _steps(read: _Read, thinkings: pa.Table) -> Found:
    """Policies of a run whose answers to a query differ between their first and last step."""
    step = _floats(thinkings["step"])
    rows = np.flatnonzero((read.rollout_answer >= 0) & ~np.isnan(step))
    if not len(rows):
        return Found((), 0)
    answer, step = read.rollout_answer[rows], step[rows]
    names = [thinkings[name].fill_null("").combine_chunks().dictionary_encode() for name in ("policy", "run")]
    policy, run = (np.asarray(name.indices.to_numpy(), np.int64)[rows] for name in names)
    series = (read.query[answer] * len(names[0].dictionary) + policy) * len(names[1].dictionary) + run
    _, example, group = np.unique(series, return_index=True, return_inverse=True)
    first, last = np.full(len(example), np.inf), np.full(len(example), -np.inf)
    np.minimum.at(first, group, step)
    np.maximum.at(last, group, step)
    pairs, cell = np.unique(group * len(read.votes) + answer, return_inverse=True)
    owner, given = pairs // len(read.votes), pairs % len(read.votes)
    ends = [step == first[group], step == last[group]]
    sizes = [np.bincount(group[end], minlength=len(example)) for end in ends]
    shares = [np.bincount(cell[end], minlength=len(pairs)) / size[owner] for end, size in zip(ends, sizes, strict=True)]
    gap = np.asarray(np.bincount(owner, np.abs(shares[0] - shares[1]) / 2, len(example)), np.float64)
    tops = [_first_of(owner, np.lexsort((given, -share, owner))) for share in shares]
    apart = np.flatnonzero((gap >= STEPS_APART) & (first < last))
    found = []
    for at in _largest(gap, apart).tolist():
        top = int(tops[0][at]), int(tops[1][at])
        values = shares[0][top[0]], shares[1][top[1]]
        made = _row(read, (int(given[top[0]]), int(given[top[1]])), values, gap[at])
        row = int(rows[example[at]])
        named = [thinkings[name][row].as_py() for name in ("policy", "run")]
        size, steps = int(sizes[0][at] + sizes[1][at]), (int(first[at]), int(last[at]))
        found.append(replace(made, rollouts=size, where=", run ".join(name for name in named if name), steps=steps))
    return Found(tuple(found), len(apart))
