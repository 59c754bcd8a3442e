"""Policies: which policy, at which step, wrote each rollout."""

from __future__ import annotations

import pyarrow as pa

from memstore.records.ids import policy_id
from memstore_schema.columns import NodeLabel, node_schema


def policies_of(thinkings: pa.Table) -> tuple[pa.Table, pa.Array]:
    """The policies of these rollouts, and the id of each rollout's policy.

    Args:
        thinkings: T rollouts with the columns `policy` and `step`, which may be null.

    Returns:
        The node table of Policy, ordered by id, and string [T], null for a rollout without a policy.
    """
    pairs = list(zip(thinkings["policy"].to_pylist(), thinkings["step"].to_pylist(), strict=True))
    ids = {(name, step): policy_id(name, step) for name, step in set(pairs) if name is not None}
    nodes = [{"id": node, "name": name, "step": step} for (name, step), node in ids.items()]
    table = pa.Table.from_pylist(nodes, schema=node_schema(NodeLabel.POLICY)).sort_by("id").combine_chunks()
    return table, pa.array([ids.get(pair) for pair in pairs], pa.string())
