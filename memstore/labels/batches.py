"""Set the labels of rollouts as one batch, and undo a batch.

All labels of a batch are checked before the first is written: a batch that contradicts the memory changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError, LabelConflict
from memstore.graph.labels import LABEL_SCHEMA, label_changes
from memstore.graph.rules import missing
from memstore.labels.audit import mark_audit
from memstore.labels.journal import Change, Journal, LabelBatch
from memstore.locations.stores import Stores
from memstore_schema.columns import NodeLabel


def label_rollouts(
    stores: Stores,
    rewards: Mapping[str, float | None],
    *,
    source: str = "person",
    by: str | None = None,
    reason: str | None = None,
    seconds: float | None = None,
    replace: bool = False,
    audit: Sequence[str] = (),
    implied: Collection[str] = (),
) -> LabelBatch | None:
    """Set the ground truth of rollouts by id, and record the batch in the journal.

    Args:
        rewards: reward in 0..1 by rollout id; None removes the ground truth.
        source: recorded as the rollouts' `reward_source`.
        by: name of the person who labels.
        reason, seconds: why, and how long the person took; for the journal.
        replace: overwrite a ground truth that differs.
        audit: ids of queries to mark as audit queries before the labels are written.
        implied: rollouts among them that are labelled because another answer is right; for the journal.

    Returns:
        The batch; None if nothing changes. A label that was implied so far, or was given by other people only, and is
        given now is recorded, too.

    Raises:
        LabelConflict: a rollout has another ground truth and `replace` is False; nothing is written.
        InputError: an id that is not in the memory, or a reward outside 0..1; nothing is written.
        ReadOnlyError: the memory cannot be written to.
    """
    for rollout, reward in rewards.items():
        if reward is not None and not 0.0 <= reward <= 1.0:
            raise InputError(f"the reward of {rollout} is {reward:g}; it must lie between 0 and 1")
    stores.check_writable()
    stored = stores.graph.nodes(NodeLabel.THINKING, LABEL_SCHEMA.names, ids=list(rewards))
    if unknown := sorted(set(rewards) - set(stored["id"].to_pylist())):
        raise missing(NodeLabel.THINKING, unknown)
    given = {rollout: reward for rollout, reward in rewards.items() if reward is not None}
    changes = label_changes(stored, _labels(given, [source] * len(given)), replace=replace)
    before = {row["id"]: (row["reward"], row["reward_source"]) for row in stored.to_pylist()}
    removed = [rollout for rollout in rewards if rollout not in given and before[rollout][0] is not None]
    journal = Journal(stores.location.folder)
    unchanged = [name for name, reward in given.items() if name not in implied and before[name][0] == reward]
    confirmed = journal.to_confirm(by) if unchanged else set()
    changed = [*changes["id"].to_pylist(), *removed, *(name for name in unchanged if name in confirmed)]
    if audit:
        mark_audit(stores, audit)
    if not changed:
        return None
    rows = [Change(rollout, *before[rollout], rewards[rollout]) for rollout in changed]
    batch = journal.record(rows, source, by, reason, seconds, implied)
    _write(stores, changes, removed, replace=replace)
    return batch


def undo_labels(stores: Stores, batch: str | None = None, *, by: str | None = None) -> LabelBatch:
    """Give the rollouts of a batch the labels that they had before; return the batch.

    Rollouts that were deleted since are left out. After an interruption, the same call completes the undo.

    Args:
        batch: id of the batch, or its beginning; None undoes the last one.
        by: name of the person who undoes it.

    Raises:
        InputError: there is no such batch, or it was undone already.
        LabelConflict: a rollout was labelled again since; nothing is undone.
        ReadOnlyError: the memory cannot be written to.
    """
    stores.check_writable()
    journal = Journal(stores.location.folder)
    found = journal.batch(batch)
    ids = [change.rollout for change in found.changes]
    stored = stores.graph.nodes(NodeLabel.THINKING, ["id", "reward"], ids=ids)
    now = dict(zip(stored["id"].to_pylist(), stored["reward"].to_pylist(), strict=True))
    present = [change for change in found.changes if change.rollout in now]
    for change in present:
        if now[change.rollout] not in (change.after, change.before):
            raise LabelConflict(
                f"the rollout {change.rollout} was labelled again after the batch {found.id}; undo the later batch "
                "first"
            )
    kept = {change.rollout: change for change in present if change.before is not None}
    sources = [change.before_source or found.source for change in kept.values()]
    labels = _labels({rollout: change.before for rollout, change in kept.items()}, sources)
    labelled = [change.rollout for change in present if change.before is None and now[change.rollout] is not None]
    _write(stores, labels, labelled, replace=True)
    journal.record_undo(found.id, by)
    return found


def _write(stores: Stores, labels: pa.Table, removed: Sequence[str], *, replace: bool) -> None:
    if labels.num_rows:
        stores.graph.set_labels(labels, replace=replace)
    if removed:
        stores.graph.clear_labels(list(removed))


def _labels(rewards: Mapping[str, float | None], sources: Sequence[str]) -> pa.Table:
    table = pa.table(
        {"id": list(rewards), "reward": list(rewards.values()), "reward_source": list(sources)}, LABEL_SCHEMA
    )
    return table.filter(pc.is_valid(table["reward"]))
