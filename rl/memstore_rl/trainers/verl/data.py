"""Writes training data for verl and TRL: Parquet files per mode and budget, without gold answers of unlabelled rows.

    train_oracle.parquet       all training queries, all with ground truth
    train_budget_20.parquet    the labelled 20 % of them only
    train_memory_20.parquet    all of them, ground truth for the same 20 %, in batches with a share of labelled rows
    validation.parquet         all with ground truth
    test.parquet               all with ground truth
    audit.parquet              audit queries with ground truth, for measuring; no other file has them. From a memory, a
                               right answer by the labels is ground truth where there is no gold answer
    data.json                  how the files were made, and the number of rows per dataset

Rows have the columns that verl's RLHFDataset reads: `data_source`, `prompt`, `ability`, `reward_model`, `extra_info`.

**No trace of an unlabelled gold answer is written.** A file is a function of the texts, keys, datasets and domains of
the queries, of which of them have a gold answer, and of the gold answers of labelled rows: changing any other gold
answer leaves it identical to the last byte. Two leaks remain possible: a text or key that contains the answer, and an
inferred domain, which depends on the kind of gold answer (a number, tests). To avoid the latter, set the domain in the
source.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from memstore.errors import InputError
from memstore.snapshots.atomic_folder import atomic_folder
from memstore.types import AUDIT_SPLIT
from memstore_rl.benchmarks.budget import SPLITS, AuditSplit, Identified, SplitName, cut, keep_in_training, labelled
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.reward import Mode
from memstore_rl.trainers.verl.batches import KEEP_ORDER, Batches, BatchPlan, batches_of, check_plan, in_batches

SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("split", pa.string()),
                    ("index", pa.int64()),
                    ("question", pa.string()),
                    ("answer", pa.string()),
                    ("query_id", pa.string()),
                    ("key", pa.string()),
                    ("domain", pa.string()),
                    ("labelled", pa.bool_()),
                    ("remember", pa.bool_()),
                ]
            ),
        ),
    ]
)
"""`extra_info.question` and `answer` are those of verl's own examples: the query without a system prompt, and the
ground truth. `query_id` is the query's id in the memory; `key` is the source's key, or "". `remember` is False where
the budget withholds a label that the source has: a memory must not reveal it either."""
DATA_MODES: tuple[Mode, ...] = ("oracle", "budget", "memory")
"""Modes with data files of their own. Mode `verdict` trains on the file of mode `oracle`."""
BLANK = ""
"""Ground truth of an unlabelled row; verl requires a text."""


@dataclass(frozen=True)
class DataPlan:
    """The files to write."""

    budgets: tuple[float, ...] = (0.2,)
    """Shares of the queries to label, for the modes `budget` and `memory`: of the training queries with a gold answer,
    or of the labelled queries of a memory, as `memstore train --budget` draws them."""
    modes: tuple[Mode, ...] = DATA_MODES
    validation: float = 0.1
    test: float = 0.2
    """Shares of the queries without a split; the rest is for training."""
    seed: int = 0
    """Seed of the label budget."""
    split_seed: int = 0
    """Seed of the split."""
    system: str | None = None
    """A system prompt for every row."""
    batches: BatchPlan | None = field(default_factory=BatchPlan)
    """Batches of the training files of mode `memory`. None: each query once, in the order of the source."""


class DataFile(NamedTuple):
    """A written file. Repeated rows count each time."""

    file: str
    rows: int
    labelled: int
    datasets: dict[str, int]
    batch_size: int | None
    labelled_per_batch: int | None
    """Rows of a batch, and how many of them are labelled; None for a file with each query once."""


def batch_note(files: Iterable[DataFile]) -> str | None:
    """Return the sentence on what the batches of these files need from a trainer; None if no file has batches."""
    return KEEP_ORDER if any(file.batch_size for file in files) else None


def audit_note(queries: Iterable[SourceQuery]) -> str | None:
    """Return the sentence on the audit queries that `audit.parquet` lacks; None if it has all of them."""
    lacking = sum(query.split == AUDIT_SPLIT and not query.gold for query in queries)
    if not lacking:
        return None
    return (
        f"{lacking:,} audit quer{'y is' if lacking == 1 else 'ies are'} not in audit.parquet for lack of ground truth; "
        "add a gold answer, or label the right answer in the memory (math and qa)"
    )


def write_data(queries: Sequence[SourceQuery], folder: Path, plan: DataPlan) -> list[DataFile]:
    """Write the data to a new folder, atomically.

    Raises:
        InputError: the folder exists and is not empty, a share or mode is invalid, there is nothing to train on, a
            budget labels no query in mode `budget`, or batches cannot have the labelled share.
    """
    tables = _tables(queries, plan)
    with atomic_folder(folder, "data") as building:
        for name, table in tables.items():
            pq.write_table(table, building / name)
        written = [_summary(name, table, batches_of(building / name)) for name, table in tables.items()]
        made = {"plan": asdict(plan), "files": [file._asdict() for file in written], "note": batch_note(written)}
        (building / "data.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return written


def _tables(queries: Sequence[SourceQuery], plan: DataPlan) -> dict[str, pa.Table]:
    unknown = set(plan.modes) - set(DATA_MODES)
    if unknown == {"verdict"}:
        raise InputError("mode verdict has no file of its own; train on that of mode oracle")
    if unknown:
        raise InputError(f"there is no mode {min(unknown)!r}; use one of {', '.join(DATA_MODES)}")
    _check_batches(plan)
    draws = _memory_draws(queries, plan)
    split = _splits(queries, plan, frozenset().union(*draws.values()))
    rows = {name: [q for q in enumerate(queries) if split[q[0]] == name] for name in (*SPLITS, AUDIT_SPLIT)}
    with_gold = [Identified(query.id, query.dataset) for _, query in rows["train"] if query.gold]
    if not with_gold:
        raise InputError("no training query has a gold answer; add `gold` to the source, or reduce the other shares")
    every = frozenset(query.id for query in queries)
    known = [item for item in rows["train"] if item[1].gold]
    tables: dict[str, pa.Table] = {}
    if "oracle" in plan.modes:
        tables["train_oracle.parquet"] = _table(known, "train", every, plan.system)
    for budget in plan.budgets:
        chosen = draws[budget] if budget in draws else labelled(with_gold, budget, plan.seed)
        if "budget" in plan.modes:
            if not chosen:
                raise InputError(f"a budget of {budget:g} labels no query, so mode budget has no data")
            only = [item for item in known if item[1].id in chosen]
            if not only:
                raise InputError(f"a budget of {budget:g} labels no query with a gold answer; add `gold` to the source")
            tables[f"train_budget_{budget * 100:g}.parquet"] = _table(only, "train", chosen, plan.system)
        if "memory" in plan.modes:
            name = f"train_memory_{budget * 100:g}.parquet"
            tables[name] = _batched(name, _table(rows["train"], "train", chosen, plan.system), plan.batches)
    for name in (*SPLITS[1:], AUDIT_SPLIT):
        measured = [item for item in rows[name] if item[1].gold]
        if measured:
            tables[f"{name}.parquet"] = _table(measured, name, every, plan.system)
    return tables


def _check_batches(plan: DataPlan) -> None:
    if plan.batches is None:
        return
    check_plan(plan.batches)
    if "memory" not in plan.modes and (plan.batches.labelled_share is not None or plan.batches.size is not None):
        raise InputError("a labelled share and a batch size are for mode memory, which is not among the modes; add it")


def _batched(name: str, table: pa.Table, plan: BatchPlan | None) -> pa.Table:
    if plan is None:
        return table
    try:
        return in_batches(table, _labelled(table), plan)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _memory_draws(queries: Sequence[SourceQuery], plan: DataPlan) -> dict[float, frozenset[str]]:
    """Ids of the labelled queries by budget, as reward models of the memory draw them; {} if the source is a file."""
    pool = [Identified(query.id, query.dataset) for query in queries if query.has_label]
    return {budget: labelled(pool, budget, plan.seed) for budget in plan.budgets} if pool else {}


def _splits(queries: Sequence[SourceQuery], plan: DataPlan, reserved: frozenset[str]) -> list[SplitName | AuditSplit]:
    """Return the split of each query: its own, else by the shares; reserved queries are for training.

    A budget may have drawn audit queries; they stay audit queries.
    """
    free = [position for position, query in enumerate(queries) if query.split is None]
    identified = [Identified(queries[position].id, queries[position].dataset) for position in free]
    drawn = cut(identified, plan.validation, plan.test, plan.split_seed)
    if reserved:
        drawn = keep_in_training(identified, drawn, reserved, plan.split_seed)
    named = dict(zip(free, drawn, strict=True))
    return [query.split or named[position] for position, query in enumerate(queries)]


def _table(
    queries: Iterable[tuple[int, SourceQuery]],
    split: SplitName | AuditSplit,
    chosen: frozenset[str],
    system: str | None,
) -> pa.Table:
    return pa.Table.from_pylist([_row(*item, split, item[1].id in chosen, system) for item in queries], SCHEMA)


def _row(
    index: int, query: SourceQuery, split: SplitName | AuditSplit, is_labelled: bool, system: str | None
) -> dict[str, Any]:
    prompt = [{"role": "system", "content": system}] if system else []
    truth = query.gold if is_labelled and query.gold else BLANK
    return {
        "data_source": query.dataset,
        "prompt": [*prompt, {"role": "user", "content": query.text}],
        "ability": query.domain,
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {
            "split": split,
            "index": index,
            "question": query.text,
            "answer": truth,
            "query_id": query.id,
            "key": query.key or "",
            "domain": query.domain,
            "labelled": truth != BLANK,
            "remember": is_labelled or not (query.gold or query.has_label),
        },
    }


def _labelled(table: pa.Table) -> list[bool]:
    return [row["labelled"] for row in table["extra_info"].to_pylist()]


def _summary(name: str, table: pa.Table, batches: Batches | None) -> DataFile:
    datasets = dict(sorted(Counter(table["data_source"].to_pylist()).items()))
    return DataFile(name, table.num_rows, sum(_labelled(table)), datasets, *(batches or (None, None)))
