"""A policy at a step is a node; rollouts without a policy have none."""

from __future__ import annotations

import pyarrow as pa

from memstore.records.ids import policy_id
from memstore.records.policies import policies_of


def rollouts(*rows: tuple[str | None, int | None]) -> pa.Table:
    names, steps = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"policy": pa.array(names, pa.string()), "step": pa.array(steps, pa.int64())})


def test_a_name_at_two_steps_is_two_policies() -> None:
    nodes, of = policies_of(rollouts(("a", 1), ("a", None), ("b", 1), ("a", 1), (None, 1), (None, None)))
    assert of.to_pylist() == [policy_id("a", 1), policy_id("a", None), policy_id("b", 1), policy_id("a", 1), None, None]
    assert nodes["id"].to_pylist() == sorted({*of.to_pylist()} - {None})
    found = {row["id"]: (row["name"], row["step"]) for row in nodes.to_pylist()}
    assert found[policy_id("a", None)] == ("a", None)
    assert found[policy_id("a", 1)] == ("a", 1)


def test_no_rollouts_have_no_policies() -> None:
    nodes, of = policies_of(rollouts())
    assert (nodes.num_rows, of.to_pylist()) == (0, [])
    assert nodes.column_names == ["id", "name", "step"]
