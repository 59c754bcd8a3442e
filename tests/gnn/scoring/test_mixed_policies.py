"""A warning where rollouts under one name differ as those of two policies do, and only there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memstore.records.ids import dataset_id, policy_id
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.conformance.graph_blocks import make_reliabilities
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import visible
from memstore_gnn.scoring.ballots import Voter
from memstore_gnn.scoring.mixed_policies import (
    LEAST_GAP,
    LEAST_QUERIES,
    Mixed,
    mixed_in_file,
    mixed_in_memory,
    warning_of,
)
from memstore_gnn.scoring.reliability import estimate_reliabilities
from memstore_schema.columns import EdgeType, edge_schema

Build = Callable[..., Snapshot]


def rows(run: str, skill: float, queries: int = 40, seed: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """A labelled rollout of policy p for each query; the right answer to query n is n."""
    right = np.random.default_rng(seed).permutation(np.arange(queries) < skill * queries)
    return [
        {"query": f"{n} + 0?", "value": str(n + (not right[n])), "reward": float(right[n]), "policy": "p", "run": run}
        | changes
        for n in range(queries)
    ]


def mixed(build_snapshot: Build, found: list[dict[str, Any]]) -> list[Mixed]:
    snapshot = build_snapshot(found, dimension=4)
    return mixed_in_memory(snapshot, estimate_reliabilities(snapshot, verdicts_of(snapshot, visible(snapshot))))


def test_a_run_that_is_far_less_often_right_is_named(build_snapshot: Build) -> None:
    [found] = mixed(build_snapshot, [*rows("a", 0.8), *rows("b", 0.7, seed=1), *rows("c", 0.2, seed=2)])
    assert found == Mixed(Voter("toy", "p", None), "in run c", 0.2, pytest.approx(0.75), 40)
    assert (warning_of([found]) or "").startswith(
        "of the rollouts of policy p in run c, on 40 queries of toy, 20% are right, and 75% of its others"
    )
    assert " (the same holds for 1 more policies); " in (warning_of([found, found]) or "")
    assert warning_of([]) is None


@pytest.mark.parametrize(
    "others",
    [
        rows("b", 0.8 - LEAST_GAP + 0.05, seed=1),
        rows("b", 0.0, queries=LEAST_QUERIES - 1),
        rows("b", 0.2, policy="another"),
        rows("b", 0.2, step=7),
        rows("b", 0.2, domain="code"),
        [{**row, "query": f"another {row['query']}", "dataset": "hard"} for row in rows("b", 0.2)],
    ],
    ids=["near", "few queries", "another policy", "another step", "programs", "another dataset"],
)
def test_nothing_is_said_of_what_can_be_one_policy(build_snapshot: Build, others: list[dict[str, Any]]) -> None:
    domain = others[0].get("domain", "math")
    assert mixed(build_snapshot, [*rows("a", 0.8, domain=domain), *others]) == []


def test_rollouts_of_one_run_are_told_apart_by_the_time_of_their_storage(build_snapshot: Build) -> None:
    found = [*rows("a", 0.8, thinking="first"), *rows("a", 0.1, seed=1, thinking="second")]
    snapshot = build_snapshot(found, dimension=4)
    days = [1 if text == "first" else 2 for text in snapshot.thinkings["text"].to_pylist()]
    stored = pa.array([dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in days], pa.timestamp("us", tz="UTC"))
    place = snapshot.thinkings.column_names.index("created_at")
    snapshot = replace(snapshot, thinkings=snapshot.thinkings.set_column(place, "created_at", stored))
    estimates = estimate_reliabilities(snapshot, verdicts_of(snapshot, visible(snapshot)))
    [one] = mixed_in_memory(snapshot, estimates)
    assert one.part.startswith("stored at 2026-01-02")


def test_many_parts_of_one_policy_are_no_many_policies(build_snapshot: Build) -> None:
    """Eight queries each in 60 runs: some differ much from the others by chance."""
    rng = np.random.default_rng(0)
    found = [
        {
            "query": f"{n} + 0?",
            "value": str(n + wrong),
            "reward": float(not wrong),
            "policy": "p",
            "run": f"run {n // 8}",
        }
        for n, wrong in enumerate((rng.random(480) < 0.4).tolist())
    ]
    assert mixed(build_snapshot, found) == []
    wrong = [{**row, "value": "-1", "reward": 0.0} if row["run"] in ("run 7", "run 8") else row for row in found]
    assert mixed(build_snapshot, [{**row, "run": "run 7" if row["run"] == "run 8" else row["run"]} for row in wrong])


@pytest.mark.parametrize(("stored", "warned"), [(0.8, True), (0.4, False)])
def test_the_scores_of_a_file_are_compared_with_the_stored_reliability(
    build_snapshot: Build, stored: float, warned: bool
) -> None:
    memory = build_snapshot(rows("a", 0.8), dimension=4)
    values = make_reliabilities({(policy_id("p", None), dataset_id("toy")): stored}).to_pylist()[0]
    values |= {"low": stored - 0.1, "high": stored + 0.1}
    names = edge_schema(EdgeType.RELIABLE_IN).names
    properties = pa.Table.from_pylist(
        [{name: values[name] for name in names}], schema=edge_schema(EdgeType.RELIABLE_IN)
    )
    first = np.zeros(1, np.int64)
    edge = replace(memory.edges["reliable_in"], source=first, target=first, properties=properties)
    memory = replace(memory, edges={**memory.edges, "reliable_in": edge})
    new = build_snapshot([*rows("b", 0.3), *rows("b", 0.3, policy="unknown")], dimension=4)
    found = mixed_in_file(memory, new, np.full(80, 0.3))
    assert [one.part for one in found] == ["in the file"] * warned
    assert mixed_in_file(memory, memory, np.full(40, 0.3)) == []  # the memory holds them
