"""Drift detection and abstention of reward models on real rollouts: the tables of docs/models.md.

    python benchmarks/model_limits.py drift FOLDER [--work FOLDER] [--queries 400]
    python benchmarks/model_limits.py policy MEMORY
    python benchmarks/model_limits.py risk FOLDER [--work FOLDER] [--queries 400] [--sets NAME ...] [--seeds 3]

`drift`: some queries of each set are the training data. Other queries of the same set (a warning is a false alarm) and
of each other set (a warning is expected) are compared with them, for several numbers of training and scored queries.
`policy`: the same for one policy, from the memory of `memstore demo`: training data are its rollouts of one step,
compared with those of the same step and of 3,600 steps later, on other queries. `risk`: a model that saw 20 % of a
set's labels scores the rest. Printed is the risk (share on the wrong side of 0.5) at falling coverage, and at the band
that training chose for a risk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.labels import rewards_of, visible_rewards
from memstore_gnn.data.splits import label_budget
from memstore_gnn.evaluation.evaluate import hide_labels
from memstore_gnn.monitoring.agreement import observed
from memstore_gnn.monitoring.drift import DatasetDrift, reference_of
from memstore_gnn.scoring.abstain import band_for
from memstore_gnn.training.fit import fit

sys.path.insert(0, str(Path(__file__).parent))
from reward_quality import read_set, set_files, set_name

LEARNT, SCORED = (10, 20, 40, 80), (8, 32, 100)
ROUNDS, DRAWS = 20, 10
STEPS = (2400, 6000)
BUDGET = 0.2
COVERAGES = (1.0, 0.9, 0.8, 0.7)
RISKS = (0.2, 0.1, 0.05)


def measure_drift(sets: Mapping[str, Snapshot]) -> None:
    """Print the share of warnings within a set and between two sets; in brackets, by votes and answers alone."""
    rng, votes = np.random.default_rng(0), {name: observed(snapshot) for name, snapshot in sets.items()}
    for learnt in LEARNT:
        alarms: dict[int, list[DatasetDrift]] = {size: [] for size in SCORED}
        found: dict[int, list[DatasetDrift]] = {size: [] for size in SCORED}
        for name, snapshot in sets.items():
            for _ in range(ROUNDS):
                total = snapshot.queries.num_rows
                known = np.zeros(total, bool)
                known[rng.permutation(total)[: min(learnt, total // 2)]] = True
                reference = reference_of(snapshot, known)
                held_out, shown = reference.observe(snapshot)[~known], votes[name][~known]
                others = [(reference.observe(sets[other]), votes[other]) for other in sets if other != name]
                for size in SCORED:
                    for _ in range(DRAWS):
                        rows = rng.permutation(len(held_out))[:size]
                        alarms[size].append(reference.compare("", held_out[rows], shown[rows]))
                    for values, other in others:
                        rows = rng.permutation(len(values))[:size]
                        found[size].append(reference.compare("", values[rows], other[rows]))
        for size in SCORED:
            result = f"false alarms {_warned(alarms[size])}, other sets {_warned(found[size])}"
            print(f"learnt from {learnt}, scored {size}: {result}", flush=True)


def _warned(held: Sequence[DatasetDrift]) -> str:
    """Format the share of warnings; in brackets, of those by votes or answers."""
    any_, votes = sum(one.drifted for one in held), sum(bool(one.moves) for one in held)
    return f"{any_ / len(held):.2%} of {len(held)} ({votes / len(held):.2%})"


def measure_policy(snapshot: Snapshot) -> None:
    """Print the share of warnings for an unchanged policy and for a changed one."""
    rng, step = np.random.default_rng(0), snapshot.thinkings["step"].to_numpy()
    early, late = (some_rollouts(snapshot, step == one) for one in STEPS)
    for learnt in LEARNT[1:]:
        held: dict[tuple[int, str], list[DatasetDrift]] = {}
        for _ in range(ROUNDS):
            known = np.zeros(early.queries.num_rows, bool)
            known[rng.permutation(len(known))[:learnt]] = True
            reference, rest = reference_of(early, known), np.flatnonzero(~known)
            for name, target in (("the same step", early), ("later", late)):
                values, votes = reference.observe(target), observed(target)
                for size in (32, 128):
                    rows = rng.permutation(rest)[:size]
                    held.setdefault((size, name), []).append(reference.compare("", values[rows], votes[rows]))
        for (size, name), found in held.items():
            means = sum(bool(one.shifts) for one in found) / len(found)
            print(f"learnt from {learnt}, scored {size} of {name}: {_warned(found)}, by means {means:.0%}", flush=True)


def measure_risk(name: str, snapshot: Snapshot, seeds: Sequence[int]) -> None:
    """Print the risks of one set, averaged over seeds."""
    label, query = rewards_of(snapshot), query_of_thinkings(snapshot)
    at_coverage, chosen = [], []
    for seed in seeds:
        split = label_budget(snapshot, BUDGET, seed)
        visible = visible_rewards(snapshot, split.labelled)
        hidden = hide_labels(snapshot)
        model = fit(hidden, visible, seed=seed, device="cpu")
        probability = model.predict(hidden, model.label_context(hidden, visible))
        rest = split.report[query] & np.isfinite(label)
        sure = np.abs(probability[rest] - 0.5)
        wrong = (probability[rest] > 0.5) != (label[rest] > 0.5)
        order = np.argsort(-sure, kind="stable")
        at_coverage.append([wrong[order[: int(np.ceil(c * len(order)))]].mean() for c in COVERAGES])
        for risk in RISKS:
            if any(one["risk"] + one["error"] <= risk for one in model.card.risks):
                taken = sure >= band_for(model.card.risks, risk, model.card.id)
                chosen.append((risk, taken.mean(), wrong[taken].mean()))
    risks = ", ".join(f"{r:.3f} at {c:.0%}" for c, r in zip(COVERAGES, np.mean(at_coverage, axis=0), strict=True))
    print(f"{name}: risk {risks}", flush=True)
    for risk in RISKS:
        own = [row[1:] for row in chosen if row[0] == risk]
        if own:
            coverage, realised = np.mean(own, axis=0)
            result = f"coverage {coverage:.0%}, risk {realised:.3f} ({len(own)} of {len(seeds)} seeds had a band)"
        else:
            result = "no band on held-out labels"
        print(f"{name}: asked for a risk of {risk:g}: {result}", flush=True)


def main() -> None:
    """Read the sets and run the chosen measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("drift", "policy", "risk"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "memstore-model-limits")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if options.what == "policy":
        with Memory.open(options.folder) as memory:
            measure_policy(memory.snapshot())
        return
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    files = [path for path in set_files(options.folder) if options.sets is None or set_name(path) in options.sets]
    sets = {set_name(path): read_set(path, options.queries, options.work).snapshot for path in files}
    if options.what == "drift":
        measure_drift(sets)
    else:
        for name, snapshot in sets.items():
            measure_risk(name, snapshot, range(options.seeds))


if __name__ == "__main__":
    main()
