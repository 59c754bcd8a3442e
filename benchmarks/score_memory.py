"""Times `score_memory` over the number of groups of a query.

    python benchmarks/score_memory.py [--queries 200] [--groups 25 50 100] [--runs]

A synthetic memory has so many queries, each with groups of eight rollouts of one policy: one group a step, as in a
training, or one a run (`--runs`). A model that was trained on another synthetic memory scores all of them, without
labels. A network with random weights corrects the votes. Prints CPU seconds and the peak of the process's memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from synthetic import ROLLOUTS_A_QUERY
from synthetic_memory import memory_of

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.verdicts import Verdicts
from memstore_gnn.models.network import Correction, RewardNetwork
from memstore_gnn.models.settings import NetworkSettings, TrainSettings
from memstore_gnn.scoring.other_policies import stored_votes
from memstore_gnn.scoring.score import score_memory
from memstore_gnn.training.fit import fit


def grouped(queries: int, groups: int, runs: bool) -> Snapshot:
    """A memory whose queries have this many groups, by step or by run."""
    snapshot = memory_of(queries, each=groups * ROLLOUTS_A_QUERY)
    group, sample = np.divmod(np.tile(np.arange(groups * ROLLOUTS_A_QUERY), queries), ROLLOUTS_A_QUERY)
    columns = {"policy": pa.array(["policy"] * len(group)), "sample_index": pa.array(sample)}
    columns |= {"run": pa.array([f"run {one}" for one in group])} if runs else {"step": pa.array(group)}
    table = snapshot.thinkings
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return replace(snapshot, thinkings=table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--groups", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--runs", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    learnt = memory_of(100, first=10**6)
    model = fit(learnt, rewards_of(learnt), settings=TrainSettings(members=0), device="cpu")
    torch.manual_seed(0)
    network = RewardNetwork(NetworkSettings()).eval()
    model = replace(model, correction=Correction((network,), 1.0))
    context = model.label_context(learnt, rewards_of(learnt))
    print("| groups a query | rollouts | CPU seconds | peak GiB |\n|---|---|---|---|")
    for groups in options.groups:
        snapshot = grouped(options.queries, groups, options.runs)
        every = np.ones(snapshot.thinkings.num_rows, np.bool_)
        started = time.process_time()
        hidden = np.full(len(every), np.nan)
        score_memory(model, snapshot, every, reward=hidden, context=context, stored=stored_votes(snapshot, Verdicts()))
        seconds = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {groups} | {len(every):,} | {seconds:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
