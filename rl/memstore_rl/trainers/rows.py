"""Rows of a trainer's batch as whole groups, and rewards of groups in the order of the rows.

A row names its group by an id of the trainer. Rows are never grouped by the text of their prompt: a batch may hold two
groups of one query, and their rewards differ.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Literal, NamedTuple, TypeAlias

from memstore.errors import InputError
from memstore_rl.rewards.reward import Group, Mode, Reward, RewardQuery, Rollout
from memstore_rl.trainers.verl.rows import query_of

WhenShort: TypeAlias = Literal["allow", "refuse"]
"""What happens to a group with fewer rollouts than the group size: it is scored and counted as short, or refused."""

COLUMNS = ("data_source", "reward_model", "extra_info")
"""Columns of the files of `memstore verl data` that say what is known of a query."""


@dataclass(frozen=True, slots=True)
class Row:
    """One rollout of a batch."""

    group: Hashable
    """The trainer's id of the group, unique within the batch."""
    query: RewardQuery
    rollout: Rollout


class GroupedRows(NamedTuple):
    """The groups of a batch, and for each the positions of its rollouts in the batch."""

    groups: list[Group]
    positions: list[list[int]]

    def in_order(self, scored: Sequence[Sequence[Reward]]) -> list[Reward]:
        """The rewards of the groups in the order of the rows."""
        found = {
            position: reward
            for positions, of_group in zip(self.positions, scored, strict=True)
            for position, reward in zip(positions, of_group, strict=True)
        }
        return [found[position] for position in range(len(found))]


class SampleNumbers:
    """Numbers the rollouts of each query, so that the service records equal responses of two groups as two rollouts.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._next: Counter[str] = Counter()
        self._lock = Lock()

    def take(self, query: str) -> int:
        """The next number of a query's text, from 0."""
        with self._lock:
            self._next[query] += 1
            return self._next[query] - 1


def group_rows(
    rows: Sequence[Row],
    *,
    size: int | None = None,
    short: WhenShort = "allow",
    mode: Mode | None = None,
    numbers: SampleNumbers | None = None,
) -> GroupedRows:
    """Group rows by their ids, in order.

    Args:
        numbers: numbers the rollouts without a `sample_index`; None: from 0 in this batch.
        size: number of rollouts in a full group; None: no group is short.

    Raises:
        InputError: there are no rows, or a group has two queries, more than `size` rollouts, or, where short groups are
            refused, fewer.
    """
    if not rows:
        raise InputError("the batch is empty; pass at least one completion")
    by_group: dict[Hashable, list[int]] = {}
    for position, row in enumerate(rows):
        by_group.setdefault(row.group, []).append(position)
    numbered = _numbered(rows, by_group, numbers or SampleNumbers())
    groups = []
    for name, positions in by_group.items():
        query = rows[positions[0]].query
        if any(rows[position].query != query for position in positions):
            raise InputError(f"group {name!r} has completions of two queries; give the group of each query its own id")
        _check_size(name, len(positions), size, short)
        groups.append(Group(query, [numbered[position] for position in positions], size, mode))
    return GroupedRows(groups, list(by_group.values()))


def _numbered(
    rows: Sequence[Row], by_group: Mapping[Hashable, Sequence[int]], numbers: SampleNumbers
) -> dict[int, Rollout]:
    """The rollouts by position, each with a sample index."""
    numbered = {}
    for positions in by_group.values():
        for position in positions:
            rollout = rows[position].rollout
            if rollout.sample_index is None:
                rollout = replace(rollout, sample_index=numbers.take(rows[position].query.text))
            numbered[position] = rollout
    return numbered


def _check_size(name: Hashable, count: int, size: int | None, short: WhenShort) -> None:
    if size is None:
        return
    if count > size:
        raise InputError(
            f"group {name!r} has {count} completions and the group size is {size}; give each group its own id"
        )
    if count < size and short == "refuse":
        raise InputError(f"group {name!r} has {count} of {size} completions; pass whole groups, or allow short ones")


def labelled_query(prompt: object, label: object = None, metadata: object = None) -> RewardQuery:
    """Read the query of a trainer that passes a label and metadata with a prompt.

    Args:
        prompt: a text, also one that a chat template has rendered, or messages.
        label: the gold answer; or a mapping, or its JSON, with columns of `memstore verl data` (`COLUMNS`), which
            trainers with one column for labels can carry; or None.
        metadata: a mapping, or its JSON, of what `extra_info` has in these files; it may have the columns themselves.

    Raises:
        InputError: the prompt has no text.
    """
    facts = row_facts(label, metadata)
    query = query_of(prompt, facts.data_source, facts.reward_model, facts.extra_info)
    return replace(query, dataset=query.dataset or None)


class RowFacts(NamedTuple):
    """The columns of `memstore verl data` for a row."""

    data_source: str
    reward_model: Mapping[str, Any]
    extra_info: Mapping[str, Any]


def row_facts(label: object = None, metadata: object = None) -> RowFacts:
    """Read label and metadata as the columns of `memstore verl data`; see `labelled_query`."""
    given = _mapping(metadata)
    columns = {name: given[name] for name in COLUMNS if name in given}
    of_label = _mapping(label)
    if of_label.keys() & set(COLUMNS):
        columns |= {name: of_label[name] for name in COLUMNS if name in of_label}
    elif label is not None:
        columns["reward_model"] = of_label if "ground_truth" in of_label else {"ground_truth": label}
    own = {name: value for name, value in given.items() if name not in COLUMNS}
    return RowFacts(
        str(columns.get("data_source") or ""),
        _mapping(columns.get("reward_model")),
        {**own, **_mapping(columns.get("extra_info"))},
    )


def _mapping(value: object) -> dict[str, Any]:
    """A mapping, or the one whose JSON a text is; else an empty one."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return dict(value) if isinstance(value, Mapping) else {}
