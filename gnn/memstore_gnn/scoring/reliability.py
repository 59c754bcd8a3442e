"""The reliability of each policy in each dataset, as the memory's graph stores it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from memstore.records.ids import dataset_id, policy_id
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.verdicts import Verdicts
from memstore_gnn.features.policy_reliability import (
    PolicyReliability,
    distinct_pairs,
    judged_answers,
    policy_reliability,
)
from memstore_gnn.scoring.ballots import DatasetBallots, ballots_by_dataset, verdict_of_answers
from memstore_gnn.scoring.other_policies import PolicyStep
from memstore_schema.columns import EdgeType, edge_schema

TABLE = pa.schema([("source", pa.string()), ("target", pa.string()), *edge_schema(EdgeType.RELIABLE_IN)])
"""Columns of `reliability_edges`."""


class Estimated(NamedTuple):
    """The reliabilities of the policies of a dataset.

    Attributes:
        verdict: float64 [A], the verdicts on the answers of the ballots, NaN without one.
    """

    ballots: DatasetBallots
    verdict: FloatVector
    reliability: PolicyReliability


def estimate_reliabilities(snapshot: Snapshot, verdicts: Verdicts) -> list[Estimated]:
    """Estimate the reliability of each policy at a step in each dataset, from verdicts and from agreement.

    See `memstore_gnn.features.policy_reliability`. Only domains whose answers have one right value count
    (`memstore.graph.verdicts.ONE_RIGHT_VALUE`). A rollout without an answer counts as wrong. A query in several
    datasets counts in the first by name.

    Args:
        verdicts: verdicts that may be seen (`memstore_gnn.data.verdicts.verdicts_of`).
    """
    verdict = verdict_of_answers(snapshot, verdicts)
    return [
        Estimated(
            part, verdict[part.answers], policy_reliability(part.ballots, verdict[part.answers], len(part.voters))
        )
        for part in ballots_by_dataset(snapshot)
    ]


def reliable_in(snapshot: Snapshot, verdicts: Verdicts, dataset: str) -> dict[PolicyStep, float]:
    """The reliability of the policies of one dataset by policy and step, as `estimate_reliabilities` gives it."""
    for part in ballots_by_dataset(snapshot):
        if part.dataset == dataset:
            verdict = verdict_of_answers(snapshot, verdicts)[part.answers]
            found = policy_reliability(part.ballots, verdict, len(part.voters)).reliability
            return {voter[1:]: value for voter, value in zip(part.voters, found.tolist(), strict=True)}
    return {}


def reliability_edges(estimates: Sequence[Estimated]) -> pa.Table:
    """The edges (`TABLE`) for `memstore.graph.protocol.GraphStore.replace_reliabilities`."""
    now, names = dt.datetime.now(dt.UTC), edge_schema(EdgeType.RELIABLE_IN).names
    rows: list[dict[str, Any]] = []
    for part, verdict, found in estimates:
        columns = [*found[:3], *_answered(part, verdict)]
        for voter, *values in zip(part.voters, *(column.tolist() for column in columns), strict=True):
            if voter.policy is not None:
                ends = {"source": policy_id(voter.policy, voter.step), "target": dataset_id(part.dataset)}
                rows.append(ends | dict(zip(names, [*values, now], strict=True)))
    return pa.Table.from_pylist(rows, schema=TABLE)


def _answered(part: DatasetBallots, verdict: FloatVector) -> tuple[IntVector, IntVector]:
    """Queries that each policy answered, and its different answers to them that are judged, each int64 [P].

    Args:
        verdict: float64 [A], NaN without one.
    """
    ballots, policies, judged = part.ballots, len(part.voters), judged_answers(part.ballots, verdict)
    answered = ballots.answer >= 0
    policy, answer, _ = distinct_pairs(ballots.policy[answered], ballots.answer[answered])
    voter, _, _ = distinct_pairs(policy, ballots.query[answer])
    return np.bincount(voter, minlength=policies), np.bincount(policy[judged[answer]], minlength=policies)
