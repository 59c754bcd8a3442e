"""Quality of predictors on hidden rewards of real rollouts, by data set: the tables of docs/reward_quality.md.

    python benchmarks/reward_quality.py FOLDER [--sets NAME ...] [--predictors NAME ...] [--budgets 0 .05 .2 .5]
        [--seeds 3] [--work FOLDER] [--jobs 1] [--ablations] [--again NAME ...] [--table]

FOLDER has one `.jsonl.gz` for each data set, in the format of `memstore ingest`. Each set becomes a memory of its own
with `--queries` queries, drawn with a fixed seed. `--work` has the memories and `cells-QUERIES.jsonl`, with one line
for each set, predictor, budget and seed that was evaluated. An interrupted run continues there, `--again` evaluates a
predictor again, and `--table` only prints. A process uses one thread; `--jobs 2` evaluates two sets at a time.

`shrunken_prior` has a prior of the other sets, never of one that shares a query key or a query text with the evaluated
set. `--ablations` evaluates the model without each of its parts (`ablations.py`), and with and without neighbours on
the half of the queries that is closest to a labelled one and on the other half.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from memstore.embedding.cached import embed_cached
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatMatrix
from memstore_gnn.baselines.constant import Constant
from memstore_gnn.baselines.knn import NearestNeighbours
from memstore_gnn.baselines.label_propagation import LabelPropagation
from memstore_gnn.baselines.logistic import Boosting, Logistic
from memstore_gnn.baselines.paper import Paper
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.predictor import Predictor
from memstore_gnn.data.splits import label_budget
from memstore_gnn.evaluation.evaluate import EvaluationRow, Prediction, evaluate, summary
from memstore_gnn.evaluation.own_model import OwnModel
from memstore_gnn.metrics import measure
from memstore_gnn.models.map_logistic import MapLogistic
from memstore_gnn.models.prior import LabelledSet, SharedPrior, train_prior

sys.path.insert(0, str(Path(__file__).parent))
from ablations import ABLATIONS

SHOWN = ("auc", "accuracy", "pair_accuracy", "advantage_hard", "advantage_soft", "ece", "brier", "aurc")
PREDICTORS = (
    "constant", "vote_share", "knn", "label_propagation", "logistic", "boosting", "paper", "shrunken", "memstore",
)  # fmt: skip
ON_DEMAND = ("paper_reversed", "shrunken_prior")

WITH_AND_WITHOUT = ("memstore", "without_similarity")
"""Predictors that are also reported by the distance of a query to the nearest labelled one."""
CLOSE, FAR = " (close to a label)", " (far from labels)"


class Set(NamedTuple):
    """A data set as a snapshot."""

    name: str
    snapshot: Snapshot
    queries: frozenset[str]
    """Keys and texts of the queries; a set that shares one is not used for the prior."""
    embed: Callable[[Sequence[str]], FloatMatrix]


class Plan(NamedTuple):
    """Combinations to evaluate on each set."""

    folder: Path
    work: Path
    queries: int
    predictors: tuple[str, ...]
    budgets: tuple[float, ...]
    seeds: tuple[int, ...]
    again: tuple[str, ...]

    @property
    def cells(self) -> Path:
        """File with the figures."""
        return self.work / f"cells-{self.queries}.jsonl"


def read_set(path: Path, queries: int, work: Path) -> Set:
    """Draw queries from a file and ingest them."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    keys = sorted({row["query_id"] for row in rows})
    chosen = set(np.random.default_rng(0).permutation(keys)[:queries].tolist())
    kept = [row for row in rows if row["query_id"] in chosen]
    name = path.name.removesuffix(".jsonl.gz")
    drawn = work / f"{name}-{queries}.jsonl"
    drawn.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    folder = work / f"{name}-{queries}"
    with Memory.open(folder, create=True) as memory:
        memory.ingest([drawn])
        snapshot = memory.snapshot()

    def embed(texts: Sequence[str]) -> FloatMatrix:
        with Memory.open(folder) as memory:
            return embed_cached(memory.embedder, memory.cache, texts)

    return Set(name, snapshot, frozenset(str(row[key]) for row in kept for key in ("query_id", "query")), embed)


def prior_for(target: Set, plan: Plan) -> SharedPrior:
    """Fit a prior to the sets that share no query with the target."""
    sets = [read_set(path, plan.queries, plan.work) for path in set_files(plan.folder) if set_name(path) != target.name]
    others = [other for other in sets if not other.queries & target.queries]
    return train_prior([LabelledSet.of(other.snapshot, rewards_of(other.snapshot)) for other in others])


def predictor_named(name: str, target: Set, plan: Plan) -> Predictor:
    """Create a predictor for a set."""
    made: dict[str, Callable[[], Predictor]] = {
        "constant": Constant,
        "vote_share": VoteShare,
        "knn": NearestNeighbours,
        "label_propagation": LabelPropagation,
        "logistic": Logistic,
        "boosting": Boosting,
        "paper": lambda: Paper(embed=target.embed),
        "paper_reversed": lambda: Paper("new_to_memory", embed=target.embed),
        "shrunken": MapLogistic,
        "shrunken_prior": lambda: MapLogistic(prior_for(target, plan), "shrunken_prior"),
        "memstore": lambda: OwnModel(device="cpu"),
        **ABLATIONS,
    }
    return made[name]()


def set_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl.gz"))


def set_name(path: Path) -> str:
    return path.name.removesuffix(".jsonl.gz")


def known_rows(plan: Plan) -> list[EvaluationRow]:
    """Read the figures that exist; the last line of a combination counts."""
    if not plan.cells.exists():
        return []
    rows = [EvaluationRow(**json.loads(line)) for line in plan.cells.read_text(encoding="utf-8").splitlines()]
    return list({(r.dataset, r.predictor, r.budget, r.seed): r for r in rows}.values())


def measure_set(plan: Plan, path: Path) -> str:
    """Evaluate the missing combinations of a set and append them to the file."""
    torch.set_num_threads(1)
    name = set_name(path)
    known = {
        (r.predictor, r.budget, r.seed) for r in known_rows(plan) if r.dataset == name and r.predictor not in plan.again
    }
    wanted = {(p, b, s) for p in plan.predictors for b in plan.budgets for s in plan.seeds} - known
    if not wanted:
        return name
    target = read_set(path, plan.queries, plan.work)

    def keep(made: Prediction) -> None:
        rows = [replace(made.row, dataset=name)]
        if made.row.predictor in WITH_AND_WITHOUT:
            rows += by_closeness(name, target.snapshot, made)
        with plan.cells.open("a", encoding="utf-8") as cells:
            cells.write("".join(json.dumps(vars(row)) + "\n" for row in rows))
        figures = f"auc {made.row.auc:.3f}, soft {made.row.advantage_soft:.3f}"
        print(f"{name} {made.row.predictor} {made.row.budget:.2f} {made.row.seed}: {figures}", file=sys.stderr)

    chosen = [predictor_named(p, target, plan) for p in plan.predictors if any(p == cell[0] for cell in wanted)]
    evaluate(target.snapshot, chosen, plan.budgets, plan.seeds, keep=keep, skip=lambda *cell: cell not in wanted)
    return name


def by_closeness(name: str, snapshot: Snapshot, made: Prediction) -> list[EvaluationRow]:
    """Rows for the half of the queries closest to a labelled one, and for the other half."""
    labelled = label_budget(snapshot, made.row.budget, made.row.seed).labelled
    if not labelled.any():
        return []
    closest = (snapshot.query_x[made.query] @ snapshot.query_x[labelled].T).max(axis=1)
    close = closest >= np.median(closest)
    rows = []
    for half, which in ((CLOSE, close), (FAR, ~close)):
        metrics = measure(made.probability[which], made.reward[which], made.query[which])
        size = {"queries": len(np.unique(made.query[which])), "rollouts": int(which.sum())}
        rows.append(replace(made.row, dataset=name + half, **size, **metrics._asdict()))
    return rows


def print_table(rows: Sequence[EvaluationRow]) -> None:
    """Print means over seeds with standard errors, and the mean over the sets that every predictor was evaluated on."""
    cells = {(r.dataset, r.predictor, r.budget, r.metric): r for r in summary(rows)}
    print("| set | labels | predictor |", " | ".join(SHOWN), "| seeds |")
    print("|---|---|---|" + "---|" * (len(SHOWN) + 1))
    places = sorted({(r.dataset, r.budget) for r in rows})
    for dataset, budget in places:
        for predictor in _in_order(r.predictor for r in rows if (r.dataset, r.budget) == (dataset, budget)):
            shown = [cells[dataset, predictor, budget, metric] for metric in SHOWN]
            figures = " | ".join(_figure(cell.mean, cell.error) for cell in shown)
            print(f"| {dataset} | {budget:.0%} | {predictor} | {figures} | {shown[0].seeds} |")
    for budget in sorted({r.budget for r in rows}):
        sets = {d for d, b in places if b == budget and not d.endswith((CLOSE, FAR))}
        for predictor in _in_order(r.predictor for r in rows if r.budget == budget):
            if all((d, predictor, budget, "auc") in cells for d in sets):
                means = [np.nanmean([cells[d, predictor, budget, m].mean for d in sets]) for m in SHOWN]
                figures = " | ".join(f"{mean:.3f}".replace("0.", ".", 1) for mean in means)
                print(f"| **mean of {len(sets)} sets** | {budget:.0%} | {predictor} | {figures} | |")


def _in_order(names: Iterable[str]) -> list[str]:
    order = (*PREDICTORS, *ON_DEMAND, *ABLATIONS)
    return sorted(set(names), key=order.index)


def _figure(mean: float, error: float) -> str:
    if np.isnan(mean):
        return "-"
    text = f"{mean:.3f}" if np.isnan(error) else f"{mean:.3f} ± {error:.3f}"
    return text.replace("0.", ".")


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", help="names of files, without .jsonl.gz; all by default")
    known = (*PREDICTORS, *ON_DEMAND)
    parser.add_argument("--predictors", nargs="+", choices=known, metavar="NAME", help=f"some of {', '.join(known)}")
    parser.add_argument("--ablations", action="store_true", help="our model without each of its parts")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.0, 0.05, 0.2, 0.5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="sets that are measured at a time")
    parser.add_argument("--again", nargs="+", default=[], metavar="NAME", help="predictors to be measured anew")
    parser.add_argument("--table", action="store_true", help="measure nothing, print what is known")
    parser.add_argument("--work", type=Path, help="folder of memories and figures, kept; a temporary one by default")
    parser.add_argument("--json", type=Path, help="write the table's rows here")
    return parser.parse_args()


def plan_of(options: Any, work: Path) -> Plan:
    predictors = options.predictors or PREDICTORS
    if "shrunken_prior" in predictors and options.jobs > 1:
        raise SystemExit("shrunken_prior opens the memories of the other sets: measure it with --jobs 1")
    if options.ablations:
        predictors = (*(options.predictors or ["memstore"]), *ABLATIONS)
    seeds = tuple(range(options.seeds))
    budgets, again = tuple(options.budgets), tuple(options.again)
    return Plan(options.folder, work, options.queries, tuple(predictors), budgets, seeds, again)


def main() -> None:
    options = parse()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        plan = plan_of(options, work)
        paths = [p for p in set_files(plan.folder) if not options.sets or set_name(p) in options.sets]
        if not options.table:
            if options.jobs == 1:
                for path in paths:
                    measure_set(plan, path)
            else:
                with ProcessPoolExecutor(options.jobs) as pool:
                    list(pool.map(partial(measure_set, plan), paths))
        halves = ("", CLOSE, FAR) if options.ablations else ("",)
        names = {set_name(path) + half for path in paths for half in halves}
        rows = [r for r in known_rows(plan) if r.dataset in names and r.predictor in plan.predictors]
        rows = [r for r in rows if r.budget in plan.budgets and r.seed in plan.seeds]
    print_table(rows)
    if options.json:
        options.json.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
