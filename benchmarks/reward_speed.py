"""Cost of scoring with the reward service and of training a model, over the size of the memory.

    python benchmarks/reward_speed.py [--queries 1000 10000 100000] [--rollouts 1000 10000 100000]
        [--peer-up-to 10000] [--repeat 7] [--threads 2] [--folder DIR]

Memories are synthetic (`synthetic_memory.py`), with 8 rollouts a query; one query in five has ground truth.

    service  an embedded memory of so many queries, opened as the reward service opens it: seconds to open, then the
             median and the worst of `--repeat` calls that score 102 groups of 8 rollouts by a new policy, half of them
             on stored queries and half on unseen ones, with other texts in every call. Vectors are given.
    peer     the paper's network, which builds and runs the whole graph for every batch as its code does
    train    a model on so many rollouts with the default settings, features included

Each line is a process of its own; its peak memory holds the snapshot, the model and the libraries. Of this, files that
are mapped into memory can be dropped by the system at any time; the column "own" is without them. Memories are kept in
`--folder` and are used again by the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from own_memory import OwnMemory
from synthetic import DIMENSION

GROUPS, ROLLOUTS_A_GROUP, LABELLED_EVERY = 102, 8, 5
SMALL = 300
"""Queries of the memory that the scoring model is trained on; the cost of scoring does not depend on them."""
TRUST = 0.5
"""Trust in the scoring model's networks, so that scoring pays for them; random texts would give them none."""
BATCHES = 16
"""Batches that are made for a memory."""


def build(queries: int, folder: Path) -> None:
    """Make an embedded memory of `queries` with a reward model in `folder`, and batches of groups to score."""
    from synthetic_memory import memory_of

    from memstore.memory import Memory
    from memstore.pipeline.ingest import IngestOptions
    from memstore.testing.doubles.embedder import HashEmbedder

    stored = _rows(memory_of(queries))
    rows = folder / "rows.jsonl"
    with rows.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in stored)
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder(DIMENSION)) as memory:
        memory.ingest([rows], IngestOptions(link=False))
        _add_model(memory)
    rows.unlink()
    rng = np.random.default_rng(0)
    for number in range(BATCHES):
        batch = _rows(memory_of(GROUPS, seed=100 + number, first=10**8 + number * GROUPS))
        for place, row in enumerate(batch):
            row["policy"] = "new"
            if place // ROLLOUTS_A_GROUP % 2 == 0:
                of_query = place // ROLLOUTS_A_GROUP * queries // GROUPS * ROLLOUTS_A_GROUP
                row["query"] = stored[of_query]["query"]
                row["answer"] = stored[of_query + int(rng.integers(ROLLOUTS_A_GROUP))]["answer"]
        (folder / f"batch-{number}.json").write_text(json.dumps(batch), encoding="utf-8")


def _rows(snapshot: Any) -> list[dict[str, Any]]:
    """Rows to ingest, in the order of the snapshot's thinkings."""
    from memstore_gnn.data.groups import query_of_thinkings
    from memstore_gnn.features.outline import answer_values

    query, texts = query_of_thinkings(snapshot), snapshot.queries["text"].to_pylist()
    columns = zip(
        query.tolist(),
        snapshot.thinkings["text"].to_pylist(),
        answer_values(snapshot).to_pylist(),
        snapshot.thinkings["policy"].to_pylist(),
        _labels(snapshot).tolist(),
        strict=True,
    )
    return [
        {
            "query": texts[of_query],
            "dataset": "synthetic",
            "domain": "math",
            "thinking": thinking,
            "answer": answer,
            "policy": policy,
            "reward": reward if np.isfinite(reward) else None,
        }
        for of_query, thinking, answer, policy, reward in columns
    ]


def _add_model(memory: Any) -> None:
    """Train a small reward model and store it in the memory."""
    from dataclasses import replace

    from synthetic_memory import memory_of

    from memstore.graph.protocol import ScoreBatch
    from memstore.snapshots.take import manifest_of
    from memstore_gnn.models.checkpoint import save_model
    from memstore_gnn.models.registry import model_node
    from memstore_gnn.models.settings import TrainSettings
    from memstore_gnn.scoring.score_table import score_table
    from memstore_gnn.training.fit import fit
    from memstore_gnn.verbs.train import NO_SCORES

    small, manifest = memory_of(SMALL, seed=1), manifest_of(memory.stores, "")
    small = replace(small, manifest=replace(small.manifest, embedder=manifest.embedder, splitter=manifest.splitter))
    model = fit(small, _labels(small), settings=TrainSettings(epochs=20), device="cpu")
    model = replace(model, correction=replace(model.correction, trust=TRUST))
    card = model.card
    save_model(model, memory.models_folder / card.id)
    node = model_node(memory, card.id, card.snapshot, card.created_at, {})
    memory.record_scores(ScoreBatch(model=node, scores=score_table(NO_SCORES)))


def service(queries: int, repeat: int, folder: Path) -> dict[str, Any]:
    """Open a memory of `queries` and score batches with it."""
    from memstore.memory import Memory
    from memstore.testing.doubles.embedder import HashEmbedder
    from memstore_rl.rewards.group import GroupScorer
    from memstore_rl.rewards.reward import Group, RewardQuery, Rollout

    embedder = HashEmbedder(DIMENSION)
    vectors: dict[str, Any] = {}
    batches = []
    for number in range(repeat + 1):
        rows = json.loads((folder / f"batch-{number}.json").read_text(encoding="utf-8"))
        texts = [row[name] for row in rows for name in ("query", "thinking")]
        vectors.update(zip(texts, embedder.embed(texts), strict=True))
        groups = []
        for start in range(0, len(rows), ROLLOUTS_A_GROUP):
            own = rows[start : start + ROLLOUTS_A_GROUP]
            query = RewardQuery(own[0]["query"], dataset="synthetic", domain="math")
            rollouts = [Rollout(thinking=one["thinking"], answer=one["answer"], policy=one["policy"]) for one in own]
            groups.append(Group(query, rollouts))
        batches.append(groups)
    started = time.perf_counter()
    with (
        Memory.open(folder / "memory", embedder=embedder) as memory,
        GroupScorer.open(memory, device="cpu", embed=lambda wanted: np.stack([vectors[t] for t in wanted])) as scorer,
    ):
        opened = time.perf_counter() - started
        scorer.score_groups(batches.pop())
        return {"open": opened, **_times([lambda batch=batch: scorer.score_groups(batch) for batch in batches])}


def peer(queries: int, repeat: int, folder: Path) -> dict[str, Any]:
    """Score with the paper's model, which builds and runs the whole graph for every batch."""
    import torch
    from synthetic_memory import memory_of

    from memstore_gnn.baselines.paper import Paper, PaperNetwork, PaperSettings

    network, paper = PaperNetwork(DIMENSION, PaperSettings()), Paper()
    torch.manual_seed(0)
    both = [memory_of(queries + GROUPS, seed=i) for i in range(min(repeat, 3))]
    remembered = np.arange(queries + GROUPS) < queries
    return _times([lambda one=one: paper.predict(network, one, remembered) for one in both])


def train(rollouts: int, repeat: int, folder: Path) -> dict[str, Any]:
    """Train a model with the default settings, features included, once."""
    from synthetic_memory import memory_of

    from memstore_gnn.training.fit import fit

    memory = memory_of(rollouts // ROLLOUTS_A_GROUP)
    return _times([lambda: fit(memory, _labels(memory), device="cpu")])


def _labels(memory: Any) -> Any:
    from memstore_gnn.data.groups import query_of_thinkings
    from memstore_gnn.data.labels import rewards_of

    return np.where(query_of_thinkings(memory) % LABELLED_EVERY == 0, rewards_of(memory), np.nan)


def _times(works: list[Callable[[], Any]]) -> dict[str, float]:
    walls, processor = [], []
    for work in works:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    return {"median": float(np.median(walls)), "worst": max(walls), "processor": min(processor)}


PARTS = {"service": service, "peer": peer, "train": train}


def one(part: str, size: int, options: Any) -> None:
    """Measure one line in this process and print it as JSON."""
    import torch

    torch.set_num_threads(options.threads)
    own = OwnMemory()
    own.start()
    made = PARTS[part](size, options.repeat, options.folder / str(size))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"part": part, "size": size, **made, "peak_gib": peak, "own_gib": own.peak / 2**30}))


def in_a_process(part: str, size: int, options: Any) -> str:
    """Run a part in a process of its own; return the last line that it prints."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", part, str(size), "--repeat", str(options.repeat)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    command += ["--threads", str(options.threads), "--folder", str(options.folder)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="remembered queries")
    parser.add_argument("--rollouts", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="to train on")
    parser.add_argument("--peer-up-to", type=int, default=10_000, help="remembered queries of the peer's memory")
    parser.add_argument("--repeat", type=int, default=7, help=f"timed calls, {BATCHES - 1} at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "memstore-reward-speed")
    parser.add_argument("--one", nargs=2, metavar=("PART", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        part, size = options.one[0], int(options.one[1])
        if part == "build":
            build(size, options.folder / str(size))
        else:
            one(part, size, options)
        return
    plan = [("service", size) for size in options.queries]
    plan += [("peer", size) for size in options.queries if size <= options.peer_up_to]
    plan += [("train", size) for size in options.rollouts]
    header = ("size", "open s", "median s", "worst s", "CPU s", "peak GiB", "own GiB")
    print(f"{'':8}" + "".join(f"{name:>10}" for name in header))
    for part, size in plan:
        folder = options.folder / str(size)
        if part == "service" and not folder.exists():
            folder.mkdir(parents=True)
            in_a_process("build", size, options)
        made = json.loads(in_a_process(part, size, options))
        opened = f"{made['open']:10.1f}" if "open" in made else f"{'':10}"
        figures = f"{made['median']:10.3f}{made['worst']:10.3f}{made['processor']:10.3f}"
        print(f"{part:8}{size:>10,}{opened}{figures}{made['peak_gib']:10.2f}{made['own_gib']:10.2f}", flush=True)


if __name__ == "__main__":
    main()
