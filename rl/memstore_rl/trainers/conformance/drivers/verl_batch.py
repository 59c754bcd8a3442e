"""Drives the batch function for verl 0.7.0 and earlier with the arguments of verl's `batch` manager."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from memstore_rl.trainers.conformance.driver import GroupCase, Outcome
from memstore_rl.trainers.conformance.drivers.verl import means_of_replies
from memstore_rl.trainers.hook_settings import HookSettings


class Driver:
    """See the module's docstring."""

    trainer = "verl-batch"
    against = "the arguments of the batch manager as recorded from verl 0.5 to 0.7.0"
    may_refuse = False

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A training batch."""
        return _call(groups, settings, "train")

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A validation batch."""
        return _call(groups, settings, "validation")


def _call(groups: Sequence[GroupCase], settings: HookSettings, split: str) -> Outcome:
    from memstore_rl.trainers.verl.batch import compute_score_batch

    rows = [(case, text) for case in groups for text in case.completions]
    with tempfile.TemporaryDirectory() as folder:
        replies = compute_score_batch(
            data_sources=["sums"] * len(rows),
            solution_strs=[text for _, text in rows],
            ground_truths=[case.gold or "" for case, _ in rows],
            extra_infos=[{"split": split, "query_id": case.query, "domain": "math"} for case, _ in rows],
            files=[_data(groups, Path(folder))],
            n=settings.group_size or len(rows),
            endpoint=settings.endpoint,
            deadline_s=settings.deadline_s,
        )
    values: dict[str, list[float]] = {case.name: [] for case in groups}
    for (case, _), reply in zip(rows, replies, strict=True):
        values[case.name].append(float(reply["score"]))
    return Outcome(values, means_of_replies(replies))


def _data(groups: Sequence[GroupCase], folder: Path) -> str:
    """The data file, from which the function reads the prompts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / "data.parquet"
    rows = [
        {"prompt": [{"role": "user", "content": case.query}], "extra_info": {"query_id": case.query}} for case in groups
    ]
    pq.write_table(pa.Table.from_pylist(rows), file)
    return str(file)
