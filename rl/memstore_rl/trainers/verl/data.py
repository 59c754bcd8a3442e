"""Training data for verl: Parquet for each mode and label budget, with the ground truth of unlabelled rows blanked.

    train_oracle.parquet       all queries for training, all with ground truth
    train_budget_20.parquet    the labelled 20 % of them, nothing else
    train_memory_20.parquet    all of them, ground truth for the same 20 %
    validation.parquet         all with ground truth, as are those of
    test.parquet
    data.json                  how it was made, and how many rows there are of each dataset

A row has the columns that verl's RLHFDataset reads: `data_source`, `prompt`, `ability`, `reward_model`, `extra_info`.

**Nothing of an unlabelled gold is written.** A file is a function of the queries' texts, keys, datasets and domains, of
which of them have a gold, and of the golds of its labelled rows: with any other golds for the unlabelled ones it is
the same to the last byte. What this cannot promise: a text or a key that tells the answer itself, and a domain that
was inferred, which looks at the kind of gold (a number, tests); name the domain in the source to be rid of that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from memstore.errors import InputError
from memstore.snapshots.atomic_folder import atomic_folder
from memstore_rl.benchmarks.budget import SPLITS, Identified, SplitName, cut, labelled
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.reward import MODES, Mode

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
                    ("query_id", pa.string()),
                    ("key", pa.string()),
                    ("domain", pa.string()),
                    ("labelled", pa.bool_()),
                ]
            ),
        ),
    ]
)
"""`extra_info.query_id` is the query's id in the memory, `key` the source's own, "" where it gave none."""
BLANK = ""
"""Ground truth of an unlabelled row: verl wants a text there."""


@dataclass(frozen=True)
class DataPlan:
    """What is to be written."""

    budgets: tuple[float, ...] = (0.2,)
    """Shares of the training queries with a gold that are labelled, for the modes `budget` and `memory`."""
    modes: tuple[Mode, ...] = MODES
    validation: float = 0.1
    test: float = 0.2
    """Shares of the queries that do not name their split; what the two leave is for training."""
    seed: int = 0
    """Another seed labels other queries."""
    split_seed: int = 0
    """Another seed trains on other queries."""
    system: str | None = None
    """A system prompt for every row."""


class DataFile(NamedTuple):
    """A file that was written."""

    file: str
    rows: int
    labelled: int
    datasets: dict[str, int]


def write_data(queries: Sequence[SourceQuery], folder: Path, plan: DataPlan) -> list[DataFile]:
    """Write the data; the folder appears whole or not at all.

    Raises:
        InputError: the folder is there and not empty, a share is none, a mode is none, there is nothing to train on,
            or a budget labels no query at all where only labelled ones are trained on.
    """
    tables = _tables(queries, plan)
    with atomic_folder(folder, "data") as building:
        for name, table in tables.items():
            pq.write_table(table, building / name)
        written = [_summary(name, table) for name, table in tables.items()]
        made = {"plan": asdict(plan), "files": [file._asdict() for file in written]}
        (building / "data.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return written


def _tables(queries: Sequence[SourceQuery], plan: DataPlan) -> dict[str, pa.Table]:
    unknown = set(plan.modes) - set(MODES)
    if unknown:
        raise InputError(f"there is no mode {min(unknown)!r}; there are {', '.join(MODES)}")
    split = _splits(queries, plan)
    rows = {name: [q for q in enumerate(queries) if split[q[0]] == name] for name in SPLITS}
    with_gold = [Identified(query.id, query.dataset) for _, query in rows["train"] if query.gold]
    if not with_gold:
        raise InputError("no query to train on has a gold answer; give `gold` in the source, or smaller other shares")
    every = frozenset(query.id for query in queries)
    known = [item for item in rows["train"] if item[1].gold]
    tables: dict[str, pa.Table] = {}
    if "oracle" in plan.modes:
        tables["train_oracle.parquet"] = _table(known, "train", every, plan.system)
    for budget in plan.budgets:
        chosen = labelled(with_gold, budget, plan.seed)
        if "budget" in plan.modes:
            if not chosen:
                raise InputError(f"a budget of {budget:g} labels no query, so there is nothing for mode budget")
            only = [item for item in known if item[1].id in chosen]
            tables[f"train_budget_{budget * 100:g}.parquet"] = _table(only, "train", chosen, plan.system)
        if "memory" in plan.modes:
            tables[f"train_memory_{budget * 100:g}.parquet"] = _table(rows["train"], "train", chosen, plan.system)
    for name in SPLITS[1:]:
        measured = [item for item in rows[name] if item[1].gold]
        if measured:
            tables[f"{name}.parquet"] = _table(measured, name, every, plan.system)
    return tables


def _splits(queries: Sequence[SourceQuery], plan: DataPlan) -> list[SplitName]:
    """What each query is for: as it says itself, else by the shares."""
    free = [position for position, query in enumerate(queries) if query.split is None]
    drawn = cut(
        [Identified(queries[position].id, queries[position].dataset) for position in free],
        plan.validation,
        plan.test,
        plan.split_seed,
    )
    named = dict(zip(free, drawn, strict=True))
    return [query.split or named[position] for position, query in enumerate(queries)]


def _table(
    queries: Iterable[tuple[int, SourceQuery]], split: SplitName, chosen: frozenset[str], system: str | None
) -> pa.Table:
    return pa.Table.from_pylist([_row(*item, split, item[1].id in chosen, system) for item in queries], SCHEMA)


def _row(index: int, query: SourceQuery, split: SplitName, is_labelled: bool, system: str | None) -> dict[str, Any]:
    prompt = [{"role": "system", "content": system}] if system else []
    return {
        "data_source": query.dataset,
        "prompt": [*prompt, {"role": "user", "content": query.text}],
        "ability": query.domain,
        "reward_model": {"style": "rule", "ground_truth": query.gold if is_labelled and query.gold else BLANK},
        "extra_info": {
            "split": split,
            "index": index,
            "query_id": query.id,
            "key": query.key or "",
            "domain": query.domain,
            "labelled": bool(is_labelled and query.gold),
        },
    }


def _summary(name: str, table: pa.Table) -> DataFile:
    flags = [row["labelled"] for row in table["extra_info"].to_pylist()]
    return DataFile(name, table.num_rows, sum(flags), dict(sorted(Counter(table["data_source"].to_pylist()).items())))
