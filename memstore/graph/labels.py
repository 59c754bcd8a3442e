"""Ground-truth labels of rollouts that are already stored: which change, and which contradict.

All backends use these functions, so that none overwrites a label silently. Rewards are compared exactly.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError, LabelConflict

LABEL_SCHEMA = pa.schema([("id", pa.string()), ("reward", pa.float64()), ("reward_source", pa.string())])


def label_changes(stored: pa.Table, given: pa.Table, *, replace: bool) -> pa.Table:
    """Labels to write: those of `given` that stored rollouts lack or, with `replace`, differ from.

    Args:
        stored, given: tables with `id`, `reward` and `reward_source`; ids are unique in each. Given rows whose id
            is not stored, or whose reward is null, change nothing.

    Raises:
        LabelConflict: a stored reward differs from the given one and `replace` is False.
    """
    before = stored.select(LABEL_SCHEMA.names).rename_columns(["id", "old_reward", "old_source"])
    given = given.select(LABEL_SCHEMA.names).filter(pc.is_valid(given["reward"]))
    both = given.join(before, keys="id", join_type="inner")
    other_reward = pc.fill_null(pc.not_equal(both["reward"], both["old_reward"]), False)
    if not replace:
        conflicts = both.filter(other_reward)
        if conflicts.num_rows:
            raise _conflict(conflicts)
        return _labels(both.filter(pc.is_null(both["old_reward"])))
    other_source = pc.fill_null(
        pc.not_equal(both["reward_source"], both["old_source"]), pc.is_null(both["old_source"]).combine_chunks()
    )
    return _labels(both.filter(pc.or_(pc.is_null(both["old_reward"]), pc.or_(other_reward, other_source))))


def check_labels(labels: pa.Table) -> pa.Table:
    """Validate labels and cast their columns.

    Raises:
        InputError: an id occurs twice, or a reward is missing or outside 0..1.
    """
    labels = labels.select(LABEL_SCHEMA.names).cast(LABEL_SCHEMA)
    reward = labels["reward"]
    inside = pc.fill_null(pc.and_(pc.greater_equal(reward, 0.0), pc.less_equal(reward, 1.0)), False)
    if wrong := labels.filter(pc.invert(inside)).slice(0, 1).to_pylist():
        raise InputError(f"rollout {wrong[0]['id']} cannot have the reward {wrong[0]['reward']}; give a number in 0..1")
    if len(pc.unique(labels["id"])) < labels.num_rows:
        raise InputError("a rollout occurs twice among the labels; give each rollout once")
    return labels


def _labels(table: pa.Table) -> pa.Table:
    return table.select(LABEL_SCHEMA.names).sort_by("id").combine_chunks()


def _conflict(conflicts: pa.Table) -> LabelConflict:
    first = conflicts.sort_by("id").slice(0, 1).to_pylist()[0]
    more = f" (and {conflicts.num_rows - 1} more)" if conflicts.num_rows > 1 else ""
    return LabelConflict(
        f"rollout {first['id']} has the reward {first['old_reward']:g} ({first['old_source']}) and is now said to have "
        f"{first['reward']:g} ({first['reward_source']}){more}; pass --replace (replace=True) to overwrite it"
    )
