"""Measures what the graph network adds to the votes of a memory, and each of its relations.

    python benchmarks/vote_network.py FOLDER [--sets NAME ...] [--queries 400] [--seeds 2] [--budgets .2 .5]

FOLDER has files of labelled rollouts, as for `seen_queries.py`; sets whose answers have one right value are read. Half
of the policies are in the memory, a share of its queries is labelled, and the other policies' rollouts of the same
queries are scored as after an ingest. Texts are embedded by a hash, since the network reads votes only. The table has
AUC, advantage and ECE, averaged over seeds and both orders, for the votes by reliability, the network with the trust
that held-out queries give it, the network with full trust, and the latter trained and used without one relation.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from seen_queries import read_set, sets_of
from torch_geometric.data import HeteroData

from memstore.progress import Silent
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.verdicts import ONE_RIGHT_VALUE
from memstore_gnn.evaluation.situations import Case, Situation, as_ingested, cases_of
from memstore_gnn.metrics import advantage_soft, auc, ece
from memstore_gnn.models.network import NO_CORRECTION, Correction
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.models.vote_graph import Voters, Votes, vote_graph
from memstore_gnn.scoring import other_policies
from memstore_gnn.training import fit_network
from memstore_gnn.training.fit import fit_prior

RELATIONS = ("wrote", "generates", "leads_to")
Row = tuple[float, float, float, float]
"""AUC, advantage, ECE and trust."""


@contextmanager
def without(relation: str) -> Iterator[None]:
    """Leave a relation and its reverse out of all graphs."""

    def cut(votes: Votes, voters: Voters) -> HeteroData:
        graph = vote_graph(votes, voters)
        for kind in graph.edge_types:
            if kind[1].removeprefix("rev_") == relation:
                graph[kind].edge_index = graph[kind].edge_index[:, :0]
        return graph

    with patch.object(fit_network, "vote_graph", cut), patch.object(other_policies, "vote_graph", cut):
        yield


@contextmanager
def full_trust() -> Iterator[None]:
    with patch.object(fit_network, "_trust", lambda *_: 1.0):
        yield


def trained(case: Case) -> Correction:
    return fit_network.fit_correction(
        case.memory, case.reward, TrainSettings(), seed=case.seed, device=torch.device("cpu"), progress=Silent()
    ).correction


def measured(case: Case, correction: Correction) -> Row:
    """Figures of the prior with this network; the groups have one rollout each, so that only votes count."""
    case.__dict__["model"] = replace(
        fit_prior(case.memory, SharedPrior.shipped(), seed=case.seed, device="cpu"), correction=correction
    )
    found, query = as_ingested(case), query_of_thinkings(case.new)
    return auc(found, case.truth), advantage_soft(found, case.truth, query), ece(found, case.truth), correction.trust


def rows_of(case: Case) -> dict[str, Row]:
    rows = {"votes by reliability": measured(case, NO_CORRECTION), "network": measured(case, trained(case))}
    with full_trust():
        rows["network, full trust"] = measured(case, trained(case))
        for relation in RELATIONS:
            with without(relation):
                rows[f"full trust, without {relation}"] = measured(case, trained(case))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.2, 0.5])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| set | labelled | model | AUC | advantage | ECE | trust |\n" + "|---" * 7 + "|")
    for name, files in sets_of(options.folder).items():
        if options.sets is not None and name not in options.sets:
            continue
        snapshot = read_set(files, options.queries, Path(tempfile.mkdtemp()), HashEmbedder())
        if not ONE_RIGHT_VALUE.issuperset(snapshot.queries["domain"].to_pylist()):
            continue
        for budget in options.budgets:
            situation = Situation("partly", budget)
            cases = [case for seed in range(options.seeds) for case in cases_of(snapshot, situation, seed, "cpu")]
            found = [rows_of(case) for case in cases]
            for model in found[0]:
                figures = np.mean([rows[model] for rows in found], axis=0)
                cells = " | ".join(f"{value:.3f}" for value in figures[:3])
                print(f"| {name} | {budget:.0%} | {model} | {cells} | {figures[3]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
