"""Measures which queries are worth labelling: the tables of docs/labelling.md.

    python benchmarks/label_queue.py FOLDER [--sets NAME ...] [--labels 20 40 80] [--seeds 0 1] [--queries 400]
        [--work FOLDER]
    python benchmarks/label_queue.py FOLDER --rules [--sets NAME ...] [--labels 20 40 80] [--queries 400]
    python benchmarks/label_queue.py --speed QUERIES [--labels N]

FOLDER holds one `.jsonl.gz` per set. A quarter of the queries of each set is for audit: nothing is chosen from it, and
the figures are over its rollouts. Labels of whole queries are bought by each method, a reward model is trained on them,
and it predicts the audit queries:

    random        uniformly at random
    uncertainty   the smallest share of the most frequent answer
    training      `memstore queue --for training`: covers the uncertain queries
    disagreement  the same with the uncertainty 1.1 - share of the most frequent answer, and the cosine to the power 1
    pages         `memstore queue --for pages`, by the votes at first and by a model of the labels bought so far later

    auc, adv      `memstore_gnn.metrics.auc` and `advantage_soft`
    gap           residual (probability less that by votes alone) of right rollouts less that of wrong ones, over those
                  queries whose most frequent answer is wrong and another one right

`--rules` compares rules of the choice for training by the labels that they buy, without reward models: the share s of
the most frequent answer, the share of right rollouts, and four times the variance of the rewards, as means over the
chosen queries. `--speed` measures time and peak memory of the choice on synthetic vectors.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from memstore.embedding.minilm import load_embedder
from memstore.graph.protocol import EdgeTable
from memstore.snapshots.snapshot import Snapshot
from memstore.text import canonical_answer
from memstore.types import AUDIT_SPLIT, BoolVector, FloatMatrix, FloatVector, IntVector
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.labels import rewards_of, visible_rewards
from memstore_gnn.data.splits import draw
from memstore_gnn.evaluation.evaluate import hide_labels
from memstore_gnn.features.assemble import group_features
from memstore_gnn.metrics import advantage_soft, auc
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.queue.candidates import candidates
from memstore_gnn.queue.choose import choose_queries
from memstore_gnn.queue.cover import Cover, CoverSettings, Neighbourhood, cover_queries, greedy
from memstore_gnn.scoring.score import predict_memory
from memstore_gnn.training.fit import fit

sys.path.insert(0, str(Path(__file__).parent))
from reward_quality import read_set, set_files, set_name

AUDIT = 0.25
"""Share of audit queries."""
METHODS = ("random", "uncertainty", "training", "disagreement", "pages")


class Figures(NamedTuple):
    """Figures on the audit queries."""

    auc: float
    adv: float
    gap: float


class Bench:
    """One set and one seed.

    Args:
        snapshot: every rollout has a label.
    """

    def __init__(self, snapshot: Snapshot, seed: int) -> None:
        self.seed, self.truth = seed, snapshot
        ids = snapshot.queries["id"].to_pylist()
        order = draw(ids, [""] * len(ids), 1.0, 1000 + seed)[0]
        self.audit = np.zeros(len(ids), np.bool_)
        self.audit[order[: int(len(ids) * AUDIT)]] = True
        self.hidden = marked(hide_labels(snapshot), self.audit)
        self.place = {name: row for row, name in enumerate(ids)}

    def chosen(self, method: str, counts: Sequence[int]) -> list[IntVector]:
        """The queries that a method labels with each of these numbers of labels."""
        rows = np.flatnonzero(candidates(self.hidden).open & ~self.audit)
        rng = np.random.default_rng(self.seed)
        if method == "pages":
            return self._pages(counts)
        if method == "random":
            order = rng.permutation(rows)
        elif method == "uncertainty":
            share = candidates(self.hidden).top_share[rows]
            order = rows[np.lexsort((rng.permutation(len(rows)), share))]
        elif method == "disagreement":
            weight = 1.1 - candidates(self.hidden).top_share[rows]
            order = rows[covering(self.hidden.query_x[rows], weight, max(counts), CoverSettings(exponent=1))]
        else:
            items = choose_queries(self.hidden, max(counts), audit_share=0, seed=self.seed)
            order = np.array([self.place[item.query_id] for item in items])
        return [order[:count] for count in counts]

    def _pages(self, counts: Sequence[int]) -> list[IntVector]:
        """Chosen in rounds: the labels of a round train the model that chooses the next one."""
        bought: list[int] = []
        found = []
        for count in counts:
            seen = self.with_labels(np.array(bought, np.int64))
            probability = None
            if bought:
                probability = self.probability(*self.model(np.array(bought)))
            items = choose_queries(
                seen, count - len(bought), criterion="pages", probability=probability, audit_share=0, seed=self.seed
            )
            bought += [self.place[item.query_id] for item in items]
            found.append(np.array(bought))
        return found

    def with_labels(self, rows: IntVector) -> Snapshot:
        """The memory with the labels of some queries."""
        reward = self.visible(rows)
        column = self.hidden.thinkings.schema.get_field_index("reward")
        made = pa.array(reward, pa.float64(), from_pandas=True)
        return replace(self.hidden, thinkings=self.hidden.thinkings.set_column(column, "reward", made))

    def visible(self, rows: IntVector) -> FloatVector:
        mask = np.zeros(len(self.audit), np.bool_)
        mask[rows] = True
        return visible_rewards(self.truth, mask)

    def model(self, rows: IntVector) -> tuple[RewardModel, FloatVector]:
        """A model of the labels of some queries, and these labels."""
        visible = self.visible(rows)
        return fit(self.hidden, visible, seed=self.seed, device="cpu"), visible

    def probability(self, model: RewardModel, visible: FloatVector) -> FloatVector:
        return predict_memory(model, self.hidden, visible, np.ones(len(visible), np.bool_))

    def figures(self, rows: IntVector) -> Figures:
        """What a model of the labels of some queries says about the audit queries."""
        model, visible = self.model(rows)
        probability = self.probability(model, visible)
        by_votes = model.vote_model.probability(group_features(self.hidden).groups)
        query, reward = query_of_thinkings(self.truth), rewards_of(self.truth)
        report = self.audit[query]
        p, y, group = probability[report], reward[report], query[report]
        return Figures(auc(p, y), advantage_soft(p, y, group), self._gap(probability - by_votes, reward))

    def _gap(self, residual: FloatVector, reward: FloatVector) -> float:
        groups = groups_of(self.truth)
        gaps = []
        for query in np.flatnonzero(self.audit):
            rows = np.flatnonzero(groups.query_of == query)
            right = reward[rows] > 0.5
            majority = rows[np.argmax(groups.votes[rows])] if len(rows) else -1
            if right.any() and reward[majority] <= 0.5:
                gaps.append(residual[rows][right].mean() - residual[rows][~right].mean())
        return float(np.mean(gaps)) if gaps else float("nan")


def marked(snapshot: Snapshot, audit: BoolVector) -> Snapshot:
    """Mark audit queries."""
    edges = snapshot.edges["in"]
    split = pa.array([AUDIT_SPLIT if audit[row] else None for row in edges.source], pa.string())
    place = edges.properties.schema.get_field_index("split")
    properties = edges.properties.set_column(place, "split", split)
    return replace(snapshot, edges={**snapshot.edges, "in": EdgeTable(edges.source, edges.target, properties)})


def rules(path: Path, queries: int, counts: Sequence[int]) -> None:
    """Print what the labels are that each rule of the choice for training buys from a set."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["query_id"], []).append(row)
    kept = np.random.default_rng(0).permutation(sorted(groups))[:queries].tolist()
    x = load_embedder(device="cpu").embed([groups[key][0]["query"] for key in kept])
    share = np.array([vote_share(groups[key]) for key in kept])
    right = np.array([np.mean([row["reward"] for row in groups[key]]) for key in kept])
    mixed = 4 * np.array([np.var([row["reward"] for row in groups[key]]) for key in kept])
    chosen = {
        "random": [np.random.default_rng(seed).permutation(len(kept)) for seed in range(100)],
        "1.1 - s, cosine": [covering(x, 1.1 - share, max(counts), CoverSettings(exponent=1))],
        "4 s (1 - s) + .1, cosine": [cover_queries(x, share, max(counts), CoverSettings(exponent=1))],
        "4 s (1 - s) + .1, cosine^8": [cover_queries(x, share, max(counts))],
    }
    for count in counts:
        for name, orders in chosen.items():
            found = [np.mean([values[order[:count]].mean() for order in orders]) for values in (share, right, mixed)]
            cells = " | ".join(f"{value:.3f}".replace("0.", ".", 1) for value in found)
            print(f"| {set_name(path)} | {count} | {name} | {cells} |", flush=True)


def vote_share(rows: Sequence[dict[str, Any]]) -> float:
    """Share of the most frequent answer of a query's rollouts."""
    given = [row for row in rows if row["answer"]]
    values = Counter(canonical_answer(row["answer"], row["domain"], row["query"]).value for row in given)
    return max(values.values(), default=0) / len(rows)


def covering(x: FloatMatrix, weight: FloatVector, limit: int, settings: CoverSettings) -> list[int]:
    """The greedy choice with given uncertainties."""
    cover = Cover(x, weight, np.zeros(len(x), np.bool_), settings)
    return [pick.row for pick in greedy(cover, np.arange(len(x)), Neighbourhood(x[:0]), limit, settings.duplicate)]


def speed(queries: int, labels: int) -> None:
    """Print time and peak memory of the greedy choice."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, 384)).astype(np.float32)
    x = centres[rng.integers(300, size=queries)] + rng.normal(size=(queries, 384)).astype(np.float32)
    x += np.float32(1.0) * rng.normal(size=384).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    none, started = np.zeros(queries, np.bool_), time.process_time()
    settings = CoverSettings()
    cover = Cover(x, rng.uniform(0.1, 1.1, queries), none, settings)
    picks = greedy(cover, np.arange(queries), Neighbourhood(x[:0]), labels, settings.duplicate)
    seconds, peak = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{queries:,} queries, {len(picks):,} chosen: {seconds:.1f} CPU s, peak {peak / 1024:,.0f} MiB, of which "
          f"{(peak - before) / 1024:,.0f} MiB for the choice")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--sets", nargs="+", help="file names without .jsonl.gz; default: all")
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 40, 80])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--work", type=Path, help="folder in which to keep the memories; default: a temporary one")
    parser.add_argument("--rules", action="store_true", help="compare the labels that rules of the choice buy")
    parser.add_argument("--speed", type=int, help="measure the time of a choice among so many queries")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    if options.speed:
        speed(options.speed, options.labels[0])
        return
    if options.rules:
        print("| set | labels | rule | s | right | mixed |\n|---|---|---|---|---|---|", flush=True)
        for path in set_files(options.folder):
            if not options.sets or set_name(path) in options.sets:
                rules(path, options.queries, options.labels)
        return
    print("| set | labels | method | auc | adv | gap |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for path in set_files(options.folder):
            if options.sets and set_name(path) not in options.sets:
                continue
            benches = [Bench(read_set(path, options.queries, work).snapshot, seed) for seed in options.seeds]
            for method in options.methods:
                chosen = [bench.chosen(method, options.labels) for bench in benches]
                for position, count in enumerate(options.labels):
                    made = [bench.figures(rows[position]) for bench, rows in zip(benches, chosen, strict=True)]
                    cells = " | ".join(f"{value:.3f}".replace("0.", ".", 1) for value in np.mean(made, axis=0))
                    print(f"| {set_name(path)} | {count} | {method} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
