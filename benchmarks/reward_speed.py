"""Cost of scoring a batch and of training a model, over the size of the memory.

    python benchmarks/reward_speed.py [--queries 1000 10000 100000] [--rollouts 1000 10000 100000]
        [--peer-up-to 10000] [--repeat 7] [--threads 2]

Memories are synthetic (`synthetic_memory.py`), one query in five has ground truth. Scoring: 102 new groups of 8
rollouts, other texts every time; the median and the best of `--repeat`, embedding left out. `recall` is what is done
once for a memory. Peer: the paper's network, whole graph built and run for every batch as its code does it.
Each line is a process of its own; its peak memory holds the snapshot, the model and the libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
GROUPS, ROLLOUTS_A_GROUP, LABELLED_EVERY = 102, 8, 5
SMALL = 300
"""Queries of the memory that the scoring model is trained on; the cost of scoring does not depend on them."""


def score(queries: int, repeat: int) -> dict[str, Any]:
    """Score with the reward model on a memory of `queries`."""
    from synthetic_memory import memory_of

    from memstore_gnn.models.settings import TrainSettings
    from memstore_gnn.training.fit import fit

    small = memory_of(SMALL, seed=1)
    model = fit(small, _labels(small), settings=TrainSettings(epochs=20), device="cpu")
    memory = memory_of(queries)
    started = time.perf_counter()
    context = model.label_context(memory, _labels(memory))
    recalled = time.perf_counter() - started
    batches = [memory_of(GROUPS, seed=100 + i, first=10**8 + i * GROUPS) for i in range(repeat + 1)]
    model.predict(batches.pop(), context)
    times = _times([lambda batch=batch: model.predict(batch, context) for batch in batches])
    return {"recall": recalled, **times}


def peer(queries: int, repeat: int) -> dict[str, Any]:
    """Score with the paper's model, which builds and runs the whole graph for every batch."""
    import torch
    from synthetic_memory import memory_of

    from memstore_gnn.baselines.paper import Paper, PaperNetwork, PaperSettings

    network, paper = PaperNetwork(384, PaperSettings()), Paper()
    torch.manual_seed(0)
    both = [memory_of(queries + GROUPS, seed=i) for i in range(min(repeat, 3))]
    remembered = np.arange(queries + GROUPS) < queries
    return _times([lambda one=one: paper.predict(network, one, remembered) for one in both])


def train(rollouts: int, repeat: int) -> dict[str, Any]:
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
    return {"median": float(np.median(walls)), "best": min(walls), "processor": min(processor)}


PARTS = {"score": score, "peer": peer, "train": train}


def one(part: str, size: int, repeat: int, threads: int) -> None:
    """Measure one line in this process and print it as JSON."""
    import torch

    torch.set_num_threads(threads)
    made = PARTS[part](size, repeat)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"part": part, "size": size, **made, "peak_gib": peak}))


def in_a_process(part: str, size: int, options: Any) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__, "--one", part, str(size), "--repeat", str(options.repeat)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    command += ["--threads", str(options.threads)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="remembered queries")
    parser.add_argument("--rollouts", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="to train on")
    parser.add_argument("--peer-up-to", type=int, default=10_000, help="remembered queries of the peer's memory")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("PART", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], int(options.one[1]), options.repeat, options.threads)
        return
    plan = [("score", size) for size in options.queries]
    plan += [("peer", size) for size in options.queries if size <= options.peer_up_to]
    plan += [("train", size) for size in options.rollouts]
    print(f"{'':8}{'size':>9}{'median s':>10}{'best s':>9}{'CPU s':>9}{'peak GiB':>10}{'recall s':>10}")
    for part, size in plan:
        made = in_a_process(part, size, options)
        figures = f"{made['median']:10.3f}{made['best']:9.3f}{made['processor']:9.3f}{made['peak_gib']:10.2f}"
        print(f"{part:8}{size:>9,}{figures}{made.get('recall', float('nan')):>10.1f}", flush=True)


if __name__ == "__main__":
    main()
