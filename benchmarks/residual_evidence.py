"""What each kind of evidence adds to the residual: the gap of the gauge, with and without it.

    python benchmarks/residual_evidence.py FOLDER [--sets NAME ...] [--queries 200] [--seeds 2] [--budget .2] [--work F]

FOLDER has files of labelled rollouts, one a line; `sample` is the sample's later step, whose problems share steps. Each
set becomes a memory with some of its queries, of which a share is labelled. The rollouts of a query are one group. Over
the groups of the other queries whose majority is wrong and that hold a right rollout, the table has the mean gap of the
residual p - v (`memstore_gnn.monitoring.residual_gap`) with its 90 % interval, clustered by query, and then for each
kind of evidence the gap less that of a model trained and used without it (`ablations.py`). A positive difference is
what the evidence teaches a policy beyond its own votes. v is the same in all columns.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from ablations import ABLATIONS
from seen_queries import read_set

from memstore.sample import sample_path
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.splits import label_budget
from memstore_gnn.evaluation.evaluate import hide_labels
from memstore_gnn.evaluation.own_model import OwnModel
from memstore_gnn.features.program_votes import behaviour_of
from memstore_gnn.models.vote_model import fit_votes
from memstore_gnn.monitoring.residual_gap import Interval, group_gap, interval

PARTS = ("lines", "equations", "text_evidence", "behaviour", "skill", "vectors", "similarity")
LATER_STEP = '"step": 6000'
Gaps = dict[str, list[float]]
"""Gap of each group, by the part that was left out; `all` for the whole model. The groups have the same order."""


def sets_of(folder: Path, work: Path) -> Iterator[tuple[str, Path]]:
    """The files, and the sample."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        yield path.name.removesuffix(".jsonl.gz"), path
    sample = work / "sample.jsonl.gz"
    with gzip.open(sample_path(), "rt", encoding="utf-8") as lines, gzip.open(sample, "wt", encoding="utf-8") as later:
        later.writelines(line for line in lines if LATER_STEP in line)
    yield "sample", sample


def gaps_of(snapshot: Snapshot, budget: float, seed: int) -> tuple[Gaps, IntVector]:
    """The gaps of one draw of labels, and the query of each."""
    truth, query = rewards_of(snapshot), query_of_thinkings(snapshot)
    split, hidden = label_budget(snapshot, budget, seed), hide_labels(snapshot)
    seen = np.where(split.labelled[query], truth, np.nan)
    alike = behaviour_of(hidden, groups_of(hidden)).groups
    rows = np.flatnonzero(np.isfinite(seen))
    by_votes = fit_votes(alike, seen[rows], rows).probability(alike)
    predictors = {"all": OwnModel(device="cpu"), **{part: ABLATIONS[f"without_{part}"]() for part in PARTS}}
    gaps: Gaps = {name: [] for name in predictors}
    chance = {
        name: predictor.fit_predict(hidden, seen.copy(), split.train, split.select, seed)
        for name, predictor in predictors.items()
    }
    found: list[int] = []
    for number in np.flatnonzero(split.report).tolist():
        own = np.flatnonzero((query == number) & np.isfinite(truth))
        if len(own) < 2 or not group_gap(chance["all"][own], by_votes[own], alike.answer.cell[own], truth[own])[1]:
            continue
        found.append(number)
        for name, p in chance.items():
            gaps[name].append(group_gap(p[own], by_votes[own], alike.answer.cell[own], truth[own]).gap)
    return gaps, np.array(found, np.int64)


def cell(of: Interval) -> str:
    """A mean with its interval."""
    return f"{of.mean:+.3f} ({of.low:+.3f} to {of.high:+.3f})" if of.groups else "-"


def row(name: str, draws: list[tuple[Gaps, IntVector]]) -> str:
    """The line of a set; the draws are pooled."""
    query = np.concatenate([of_draw for _, of_draw in draws])
    gaps: dict[str, FloatVector] = {part: np.concatenate([of[part] for of, _ in draws]) for part in ("all", *PARTS)}
    whole = cell(interval(gaps["all"], query))
    parts = " | ".join(cell(interval(gaps["all"] - gaps[part], query)) for part in PARTS)
    return f"| {name} | {len(query)} | {whole} | {parts} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", type=float, default=0.2)
    parser.add_argument("--work", type=Path, help="keeps the memories")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| set | groups | gap | {' | '.join(PARTS)} |\n" + "|---" * (3 + len(PARTS)) + "|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name, path in sets_of(options.folder, work):
            if options.sets is None or name in options.sets:
                snapshot = read_set([path], options.queries, work / name)
                print(row(name, [gaps_of(snapshot, options.budget, seed) for seed in range(options.seeds)]), flush=True)


if __name__ == "__main__":
    main()
