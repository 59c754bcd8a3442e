"""How well predictors guess hidden rewards on real rollouts, set by set: the table of docs/reward_quality.md.

    python benchmarks/reward_quality.py FOLDER [--sets NAME ...] [--queries 400] [--budgets 0 .05 .2 .5] [--seeds 3]

FOLDER holds one `.jsonl.gz` a set, as `memstore ingest` reads it. Each set becomes a memory of its own with the given
number of queries, drawn by a seed; embeddings are cached in `--work`. `shrunken_prior` has a prior from the other
sets, never from one that shares a query key or a query text with the set it is used on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memstore.memory import Memory
from memstore.snapshot import Snapshot
from memstore_gnn.evaluate import EvaluationRow, evaluate, rewards_of, summary
from memstore_gnn.features.assemble import label_free
from memstore_gnn.predictors.knn import NearestNeighbours
from memstore_gnn.predictors.label_propagation import LabelPropagation
from memstore_gnn.predictors.logistic import Boosting, Logistic
from memstore_gnn.predictors.prior import LabelledSet, SharedPrior, train_prior
from memstore_gnn.predictors.protocol import Predictor
from memstore_gnn.predictors.shrunken import Shrunken
from memstore_gnn.predictors.vote_share import VoteShare

SHOWN = ("auc", "accuracy", "pair_accuracy", "advantage_hard", "advantage_soft", "ece")


class Set(NamedTuple):
    """One file as a memory's snapshot."""

    name: str
    snapshot: Snapshot
    queries: frozenset[str]
    """Keys and texts: what another set must not share."""


def read_set(path: Path, queries: int, work: Path) -> Set:
    """Draw queries from a file and make a memory of them."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    keys = sorted({row["query_id"] for row in rows})
    chosen = set(np.random.default_rng(0).permutation(keys)[:queries].tolist())
    kept = [row for row in rows if row["query_id"] in chosen]
    name = path.name.removesuffix(".jsonl.gz")
    drawn = work / f"{name}.jsonl"
    drawn.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    with Memory.open(work / f"{name}-{queries}", create=True) as memory:
        memory.ingest([drawn])
        snapshot = memory.snapshot()
    return Set(name, snapshot, frozenset(str(row[key]) for row in kept for key in ("query_id", "query")))


def prior_for(target: Set, sets: Sequence[Set]) -> SharedPrior | None:
    """A prior from the sets that share no query with the target."""
    others = [other for other in sets if not other.queries & target.queries]
    learned = [LabelledSet(label_free(other.snapshot), rewards_of(other.snapshot)) for other in others]
    return train_prior(learned) if learned else None


def predictors_for(target: Set, sets: Sequence[Set]) -> list[Predictor]:
    simple: list[Predictor] = [VoteShare(), NearestNeighbours(), LabelPropagation(), Logistic(), Boosting(), Shrunken()]
    prior = prior_for(target, sets)
    return simple if prior is None else [*simple, Shrunken(prior, "shrunken_prior")]


def print_table(rows: Sequence[EvaluationRow]) -> None:
    """Means over seeds, with the standard error of AUC and soft advantage."""
    cells = {(r.dataset, r.predictor, r.budget, r.metric): r for r in summary(rows)}
    print(f"{'set':24}{'budget':>7}  {'predictor':18}", *(f"{metric:>15}" for metric in SHOWN))
    for dataset, predictor, budget in dict.fromkeys((r.dataset, r.predictor, r.budget) for r in rows):
        shown = []
        for metric in SHOWN:
            cell = cells[dataset, predictor, budget, metric]
            error = f"±{cell.error:.3f}" if metric in ("auc", "advantage_soft") else ""
            shown.append(f"{cell.mean:.3f}{error:>6}")
        print(f"{dataset:24}{budget:7.2f}  {predictor:18}", *(f"{text:>15}" for text in shown))
    for budget in dict.fromkeys(r.budget for r in rows):
        for predictor in dict.fromkeys(r.predictor for r in rows):
            mine = [r for r in rows if (r.budget, r.predictor) == (budget, predictor)]
            means = [float(np.nanmean([getattr(r, metric) for r in mine])) for metric in SHOWN]
            print(f"{'mean of all sets':24}{budget:7.2f}  {predictor:18}", *(f"{mean:>15.3f}" for mean in means))


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="*", help="names of files, without .jsonl.gz; all by default")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.0, 0.05, 0.2, 0.5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder of the memories, kept; a temporary one by default")
    parser.add_argument("--json", type=Path, help="write all rows here")
    return parser.parse_args()


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        paths = sorted(options.folder.glob("*.jsonl.gz"))
        sets = [read_set(path, options.queries, work) for path in paths]
        rows: list[EvaluationRow] = []
        for target in sets:
            if options.sets and target.name not in options.sets:
                continue
            predictors = predictors_for(target, sets)
            made = evaluate(target.snapshot, predictors, options.budgets, range(options.seeds))
            rows += [EvaluationRow(**{**vars(row), "dataset": target.name}) for row in made]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
