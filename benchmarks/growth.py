"""Time, memory and disk of each verb over the size of the memory, and how they grow.

    python benchmarks/growth.py --folder FOLDER [--rollouts 10000 100000 1000000] [--verbs ingest link ...] [--show]

Rollouts are synthetic (`growth_rows.py`): 10 a query, 1.3 kB of text, vectors of 384 numbers whose embedding costs next
to nothing. Each verb is a process of its own and runs on an embedded memory in `FOLDER/SIZE`, with two threads:

    ingest     read, validate, split, and store all rollouts
    link       the 5 nearest neighbours of each query and rollout
    snapshot   write a snapshot with texts and vectors
    open       read and check it
    train      a reward model on the memory, one query in five labelled
    score      all unlabelled rollouts in the memory
    groups     open the memory as the reward service does, and score 102 groups of 8 rollouts (the median of 5)
    verify     compare the stores of the memory
    evaluate   budgets of 20 % and 50 % of the labelled queries, one seed

Results stay in `FOLDER/SIZE.json`; what is there is not measured again. The last column of the table is the exponent of
the processor time between the two largest sizes: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
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
from growth_rows import ROLLOUTS_A_QUERY, ClusterEmbedder, rows, write_rows
from own_memory import OwnMemory

GROUPS, SAMPLES, CALLS = 102, 8, 5
FIRST_UNSEEN = 10**8
"""Number of the first query that is in no memory."""


def open_memory(folder: Path) -> Any:
    """The memory of a size."""
    from memstore.memory import Memory

    return Memory.open(folder / "memory", create=True, embedder=ClusterEmbedder())


def ingest(folder: Path, size: int) -> dict[str, Any]:
    from memstore.pipeline.ingest import IngestOptions

    with open_memory(folder) as memory:
        summary = memory.ingest([folder / "rows.jsonl"], IngestOptions(link=False))
        assert summary.added == size, summary
        return {"stages": summary.seconds}


def link(folder: Path, size: int) -> dict[str, Any]:
    with open_memory(folder) as memory:
        memory.link()
    return {"disk": sum(file.stat().st_size for file in (folder / "memory").rglob("*") if file.is_file()) / size}


def snapshot(folder: Path, size: int) -> dict[str, Any]:
    with open_memory(folder) as memory:
        memory.write_snapshot(folder / "snapshot")
    return {}


def open_snapshot(folder: Path, size: int) -> dict[str, Any]:
    from memstore.snapshots.files import load_snapshot

    assert len(load_snapshot(folder / "snapshot").thinkings) == size
    return {}


def train(folder: Path, size: int) -> dict[str, Any]:
    from memstore_gnn.verbs.train import train_memory

    with open_memory(folder) as memory:
        return {"auc": train_memory(memory, budget=1.0, device="cpu").metrics["auc"]}


def score(folder: Path, size: int) -> dict[str, Any]:
    from memstore_gnn.verbs.score import score_memory_rollouts

    with open_memory(folder) as memory:
        return {"scored": score_memory_rollouts(memory, device="cpu").scored}


def groups(folder: Path, size: int) -> dict[str, Any]:
    from memstore_rl.rewards.group import GroupScorer

    started = time.perf_counter()
    with open_memory(folder) as memory, GroupScorer.open(memory, device="cpu") as scorer:
        opened = time.perf_counter() - started
        seconds = []
        for call in range(CALLS + 1):
            batch = _batch(call, size // ROLLOUTS_A_QUERY)
            started = time.perf_counter()
            scorer.score_groups(batch)
            seconds.append(time.perf_counter() - started)
    return {"open": opened, "call": float(np.median(seconds[1:]))}


def _batch(call: int, queries: int) -> list[Any]:
    """Groups of 8 rollouts by a new policy: half on stored queries, half on unseen ones."""
    from memstore_rl.rewards.reward import Group, RewardQuery, Rollout

    half, found = GROUPS // 2, []
    stored = [(call * half + place) * queries // (half * (CALLS + 1)) for place in range(half)]
    unseen = [FIRST_UNSEEN + call * half + place for place in range(half)]
    for number in (*stored, *unseen):
        own = list(rows(1, first=number))[:SAMPLES]
        query = RewardQuery(own[0]["query"], dataset="growth", domain="math")
        rollouts = [
            Rollout(thinking=f"{call} {row['thinking']}", answer=row["answer"], policy="new", step=call) for row in own
        ]
        found.append(Group(query, rollouts))
    return found


def verify(folder: Path, size: int) -> dict[str, Any]:
    with open_memory(folder) as memory:
        report = memory.verify()
    assert report.ok, report
    return {}


def evaluate(folder: Path, size: int) -> dict[str, Any]:
    from memstore_gnn.evaluation.compare import evaluate_memory

    with open_memory(folder) as memory:
        evaluate_memory(memory, budgets=[0.2, 0.5], seeds=[0], device="cpu")
    return {}


VERBS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "ingest": ingest,
    "link": link,
    "snapshot": snapshot,
    "open": open_snapshot,
    "train": train,
    "score": score,
    "groups": groups,
    "verify": verify,
    "evaluate": evaluate,
}


def one(verb: str, folder: Path, size: int) -> dict[str, Any]:
    """Run a verb in this process."""
    own = OwnMemory()
    own.start()
    started = time.perf_counter()
    found = VERBS[verb](folder, size)
    wall = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall": wall, "cpu": cpu, "peak": usage.ru_maxrss * 1024, "own": own.peak, **found}


def measure(folder: Path, size: int, verbs: list[str]) -> None:
    """Run the verbs of a size that have no result yet, each in a process."""
    own, results = folder / str(size), folder / f"{size}.json"
    own.mkdir(parents=True, exist_ok=True)
    found = json.loads(results.read_text()) if results.exists() else {}
    if "ingest" not in found and not (own / "rows.jsonl").exists():
        write_rows(own / "part", size // ROLLOUTS_A_QUERY)
        (own / "part").rename(own / "rows.jsonl")
    for verb in verbs:
        if verb in found:
            continue
        command = [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            "--folder",
            str(own),
            "--one",
            verb,
            "--rollouts",
            str(size),
        ]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "2"}, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{verb} of {size:,} rollouts failed with exit status {done.returncode}", flush=True)
            continue
        found[verb] = json.loads(done.stdout.splitlines()[-1])
        print(f"{size:,} {verb}: {done.stdout.splitlines()[-1]}", flush=True)
        results.write_text(json.dumps(found, indent=1))


def print_table(folder: Path, sizes: list[int]) -> None:
    found = {size: json.loads((folder / f"{size}.json").read_text()) for size in sizes}
    print("\n| | " + " | ".join(f"{size:,}: s | CPU s | GB" for size in sizes) + " | exponent |")
    print("|---|" + "--:|--:|--:|" * len(sizes) + "--:|")
    for verb in VERBS:
        cells = []
        for size in sizes:
            one = found[size].get(verb)
            cells.append(f"{one['wall']:.1f} | {one['cpu']:.1f} | {one['own'] / 1e9:.2f}" if one else " | | ")
        last = [(size, found[size][verb]["cpu"]) for size in sizes if verb in found[size]][-2:]
        growth = ""
        if len(last) == 2:
            growth = f"{math.log(last[1][1] / last[0][1]) / math.log(last[1][0] / last[0][0]):.2f}"
        print(f"| {verb} | {' | '.join(cells)} | {growth} |")
    for size in sizes:
        notes = {verb: {k: v for k, v in one.items() if k not in ("wall", "cpu", "peak", "own")}
                 for verb, one in found[size].items()}  # fmt: skip
        print(f"{size:,}: " + json.dumps({verb: note for verb, note in notes.items() if note}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the memories and results are kept")
    parser.add_argument("--rollouts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    parser.add_argument("--show", action="store_true", help="start nothing; print the table of the results there are")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.folder, options.rollouts[0])))
        return
    for size in () if options.show else options.rollouts:
        measure(options.folder, size, options.verbs)
    print_table(options.folder, options.rollouts)


if __name__ == "__main__":
    main()
