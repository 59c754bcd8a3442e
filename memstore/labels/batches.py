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
from memstore.graph.verdicts import PERSON
from memstore.labels.audit import mark_audit
from memstore.labels.implied import remove_unsupported_labels, unsupported_labels
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
    journal: Journal | None = None,
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
        journal: the memory's journal, if it is read already.

    Returns:
        The batch; None if nothing changes. A label that was implied so far, or was given by other people only, and is
        given now is recorded, too. So are implied labels that lose their support and are removed.

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
    journal = journal or Journal(stores.location.folder)
    before = {row["id"]: (row["reward"], row["reward_source"]) for row in stored.to_pylist()}
    given = {rollout: reward for rollout, reward in rewards.items() if reward is not None}
    different = [name for name, reward in given.items() if before[name][0] not in (None, reward)]
    free = set() if replace else unsupported_labels(stores.graph, journal, different) & set(different)
    changes = label_changes(_without_labels(stored, free), _labels(given, [source] * len(given)), replace=replace)
    unchanged = [name for name, reward in given.items() if name not in implied and before[name][0] == reward]
    confirmed = journal.to_confirm(by) if unchanged else set()
    withdrawn = unsupported_labels(stores.graph, journal, list(rewards), rewards)
    removed = [name for name in rewards if name not in given and before[name][0] is not None] + sorted(withdrawn)
    changed = [*changes["id"].to_pylist(), *removed, *(name for name in unchanged if name in confirmed)]
    if audit:
        mark_audit(stores, audit)
    if not changed:
        return None
    before |= dict.fromkeys(withdrawn, (0.0, PERSON))
    rows = [Change(rollout, *before[rollout], rewards.get(rollout)) for rollout in changed]
    batch = journal.record(rows, source, by, reason, seconds, implied)
    _write(stores, changes, removed, replace=replace or bool(free))
    return batch


def undo_labels(stores: Stores, batch: str | None = None, *, by: str | None = None) -> LabelBatch:
    """Give the rollouts of a batch the labels that they had before; return the batch.

    Rollouts that were deleted since are left out. So are implied labels that a later verdict, or an ingest of the same
    ground truth, confirmed. After an interruption, the same call completes the undo.

    Args:
        batch: id of the batch, or its beginning; None undoes the last one.
        by: name of the person who undoes it.

    Raises:
        InputError: there is no such batch, or it was undone already.
        LabelConflict: a later batch labelled one of the rollouts, or its label changed otherwise; nothing is undone.
        ReadOnlyError: the memory cannot be written to.
    """
    stores.check_writable()
    journal = Journal(stores.location.folder)
    found = journal.batch(batch)
    own = _not_confirmed(found, journal.later(found))
    stored = stores.graph.nodes(NodeLabel.THINKING, LABEL_SCHEMA.names, ids=[change.rollout for change in own])
    now = {row["id"]: (row["reward"], row["reward_source"]) for row in stored.to_pylist()}
    present = [change for change in own if change.rollout in now and not _is_ingested(change, found, now)]
    for change in present:
        if now[change.rollout][0] not in (change.after, change.before):
            raise LabelConflict(
                f"the rollout {change.rollout} was labelled again after the batch {found.id}, but not by a batch; "
                "label it again instead, and overwrite that label"
            )
    kept = {change.rollout: change for change in present if change.before is not None}
    sources = [change.before_source or found.source for change in kept.values()]
    labels = _labels({rollout: change.before for rollout, change in kept.items()}, sources)
    labelled = [change.rollout for change in present if change.before is None and now[change.rollout][0] is not None]
    _write(stores, labels, labelled, replace=True)
    journal.record_undo(found.id, by)
    remove_unsupported_labels(stores, list(now))
    return found


def _not_confirmed(batch: LabelBatch, later: Sequence[LabelBatch]) -> list[Change]:
    """The changes of a batch without the implied labels that later batches confirmed.

    Raises:
        LabelConflict: a later batch labelled one of the rollouts otherwise.
    """
    touched = {change.rollout for change in batch.changes}
    confirmed = set[str]()
    for other in reversed(later):
        for change in other.changes:
            if change.rollout not in touched:
                continue
            if change.rollout not in batch.implied or change.before != change.after:
                raise LabelConflict(
                    f"the rollout {change.rollout} was labelled again after the batch {batch.id}; undo the later batch "
                    f"{other.id} first"
                )
            confirmed.add(change.rollout)
    return [change for change in batch.changes if change.rollout not in confirmed]


def _is_ingested(change: Change, batch: LabelBatch, now: Mapping[str, tuple[float | None, str | None]]) -> bool:
    """Whether a label that the batch implied is now ground truth of an ingest."""
    reward, source = now[change.rollout]
    return change.rollout in batch.implied and reward == change.after and source != batch.source


def _write(stores: Stores, labels: pa.Table, removed: Sequence[str], *, replace: bool) -> None:
    if labels.num_rows:
        stores.graph.set_labels(labels, replace=replace)
    if removed:
        stores.graph.clear_labels(list(removed))


def _without_labels(stored: pa.Table, rollouts: Collection[str]) -> pa.Table:
    """The stored labels without those of some rollouts."""
    hidden = pc.is_in(stored["id"], value_set=pa.array(sorted(rollouts), pa.string()))
    for name in ("reward", "reward_source"):
        position, field = stored.column_names.index(name), stored.schema.field(name)
        stored = stored.set_column(position, field, pc.if_else(hidden, pa.scalar(None, field.type), stored[name]))
    return stored


def _labels(rewards: Mapping[str, float | None], sources: Sequence[str]) -> pa.Table:
    table = pa.table(
        {"id": list(rewards), "reward": list(rewards.values()), "reward_source": list(sources)}, LABEL_SCHEMA
    )
    return table.filter(pc.is_valid(table["reward"]))
