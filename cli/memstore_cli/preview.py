"""Print what an ingest would read: `memstore ingest --dry-run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memstore_cli.output import cell, counted, print_json

if TYPE_CHECKING:
    from memstore.records.event_join import JoinCounts
    from memstore.records.preview import FilePreview
    from memstore.records.record import Record

SHOWN_CHARS = 200
"""Characters of a text that are shown of a rollout."""
FIELDS = ("query", "thinking", "answer", "gold", "reward", "dataset", "domain", "policy", "step", "sample_index")
"""Fields of a rollout that are shown, if it has them."""


def show_previews(previews: Sequence[FilePreview], as_json: bool) -> None:
    """Print each file's preview, or all as one JSON document."""
    if as_json:
        print_json([preview.as_json() for preview in previews])
        return
    for number, preview in enumerate(previews):
        if number:
            print()
        _show(preview)
    print("nothing was written (--dry-run)")


def _show(preview: FilePreview) -> None:
    shapes = ", ".join(f"{shape} ({counted(rows, 'row')})" for shape, rows in preview.shapes.most_common())
    print(f"{preview.file}: {shapes or 'nothing recognised'}")
    print(f"  {counted(preview.rollouts, 'rollout')}, {preview.labelled:,} with a reward")
    for number, record in enumerate(preview.records, start=1):
        print(f"  rollout {number}")
        _show_record(record)
    if preview.kept:
        print(f"  kept as metadata: {_keys(preview.kept)}")
    if preview.left_over:
        print(f"  left over, not read: {_keys(preview.left_over)}")
    if preview.joined is not None:
        _show_joined(preview.joined)
    if preview.rejected:
        print(f"  {counted(preview.rejected, 'row')} would be rejected:")
        for reason in preview.reasons:
            print(f"    {reason}")
    if preview.error is not None:
        print(f"  cannot be read: {preview.error}")


def _show_joined(joined: JoinCounts) -> None:
    rollouts = counted(joined.rollouts, "rollout")
    print(f"  joined: {counted(joined.events, 'event')} to {rollouts}, {joined.rewarded:,} with a reward")
    left = {
        counted(joined.rollouts - joined.rewarded, "rollout") + " without a reward": joined.rollouts - joined.rewarded,
        counted(joined.without_call, "rollout") + " without a call of the model": joined.without_call,
        counted(joined.others, "event") + " of other types": joined.others,
    }
    if any(left.values()):
        print(f"  left over of the events: {', '.join(text for text, count in left.items() if count)}")


def _show_record(record: Record) -> None:
    for name in FIELDS:
        value = getattr(record, name)
        if value not in (None, ""):
            text = cell(value)
            print(f"    {name:<13} {text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + '…'}")


def _keys(keys: Counter[str]) -> str:
    return ", ".join(sorted(keys))
