"""The network is trained on votes under masks, and trusted only where held-out queries gain by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from memstore.progress import Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.verdicts import Verdicts
from memstore_gnn.metrics import auc
from memstore_gnn.models.network import NO_CORRECTION, Correction
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.models.vote_graph import Voters, Votes
from memstore_gnn.scoring.other_policies import stored_votes
from memstore_gnn.training import fit_network
from memstore_gnn.training.fit_network import fit_correction

Build = Callable[..., Snapshot]
SETTINGS = TrainSettings(members=3, epochs=80)
QUERIES, LABELLED = 80, 50


def rollouts(traps: bool, domain: str = "math", policies: int = 4) -> list[dict[str, Any]]:
    """Each policy answers each query once. In every second query the policies but one agree on a wrong answer.

    With `traps`, a fifth policy has no answer to these queries, so that they can be recognised.
    """
    rows = []
    for query in range(QUERIES):
        trap = query % 2 == 1
        for policy in range(policies):
            right = (policy == query % policies) == trap
            rows.append(row(query, f"p{policy}", "1" if right else "2", float(right), domain))
        if trap and traps:
            rows.append(row(query, "silent", "", 0.0, domain))
    return rows


def row(query: int, policy: str, value: str, reward: float, domain: str) -> dict[str, Any]:
    return {"query": f"query {query}?", "policy": policy, "value": value, "reward": reward, "domain": domain}


def seen(snapshot: Snapshot) -> FloatVector:
    return np.where(query_of_thinkings(snapshot) < LABELLED, rewards_of(snapshot), np.nan)


def trained(snapshot: Snapshot, reward: FloatVector | None = None, settings: TrainSettings = SETTINGS) -> Correction:
    labels = seen(snapshot) if reward is None else reward
    found = fit_correction(snapshot, labels, settings, seed=0, device=torch.device("cpu"), progress=Silent())
    return found.correction


def test_a_pattern_that_votes_miss_is_learned(build_snapshot: Build) -> None:
    snapshot = build_snapshot(rollouts(traps=True))
    correction = trained(snapshot)
    assert correction.trust > 0.0
    assert len(correction.networks) == SETTINGS.members
    stored = stored_votes(snapshot, Verdicts())
    found: dict[Correction, list[FloatVector]] = {NO_CORRECTION: [], correction: []}
    for value in "12":
        new = build_snapshot([row(query, "new", value, 0.0, "math") for query in range(LABELLED, QUERIES)])
        for one, scores in found.items():
            scores.append(stored.adjust(np.full(new.thinkings.num_rows, 0.5), new, one))
    right = np.repeat([1.0, 0.0], QUERIES - LABELLED)
    plain, corrected = (auc(np.concatenate(scores), right) for scores in found.values())
    assert corrected > plain + 0.2


def test_nothing_is_trusted_where_votes_say_all(build_snapshot: Build) -> None:
    rows = [row(q, f"p{p}", "1" if p < 3 else "2", float(p < 3), "math") for q in range(QUERIES) for p in range(4)]
    assert trained(build_snapshot(rows)) == NO_CORRECTION


@pytest.mark.parametrize(
    "rows",
    [
        rollouts(traps=True, domain="code"),
        rollouts(traps=True)[:40],
        [one for one in rollouts(traps=True) if one["policy"] == "p0"],
        [],
    ],
    ids=["several right answers", "few labels", "one policy", "an empty memory"],
)
def test_no_network_without_enough_to_learn_from(build_snapshot: Build, rows: list[dict[str, Any]]) -> None:
    assert trained(build_snapshot(rows)) == NO_CORRECTION


def test_queries_that_nobody_answered_are_no_trouble(build_snapshot: Build) -> None:
    """Wherever their ids come in the order of the dataset."""
    silent = [row(query, policy, "", 0.0, "math") for query in range(QUERIES, QUERIES + 30) for policy in ("p0", "p1")]
    snapshot = build_snapshot([*rollouts(traps=True), *silent])
    answered = np.isin(query_of_thinkings(snapshot), snapshot_queries_with_answers(snapshot))
    assert not answered[query_of_thinkings(snapshot) == snapshot.queries.num_rows - 1].any()
    trained(snapshot, settings=TrainSettings(members=2, epochs=5))


def snapshot_queries_with_answers(snapshot: Snapshot) -> IntVector:
    return query_of_thinkings(snapshot)[snapshot.edges["leads_to"].source]


def test_a_mask_reads_no_more_queries_than_its_limit(build_snapshot: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    seen_queries = []
    build = fit_network.vote_graph

    def counted(votes: Votes, voters: Voters) -> HeteroData:
        seen_queries.append(votes.queries)
        return build(votes, voters)

    monkeypatch.setattr(fit_network, "vote_graph", counted)
    monkeypatch.setattr(fit_network, "MASKS", replace(fit_network.MASKS, max_queries=20))
    snapshot = build_snapshot(rollouts(traps=True))
    trained(snapshot, settings=TrainSettings(members=2, epochs=3))
    assert max(seen_queries[: fit_network.MASKS.masks]) <= 20


def test_the_same_seed_gives_the_same_networks(build_snapshot: Build) -> None:
    snapshot = build_snapshot(rollouts(traps=True))
    one, other = (trained(snapshot, settings=TrainSettings(members=2, epochs=30)) for _ in range(2))
    assert one.trust == other.trust
    for first, second in zip(one.networks, other.networks, strict=True):
        assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_labels_that_are_hidden_change_nothing(build_snapshot: Build) -> None:
    """Neither rewards in the snapshot nor anything else of an unlabelled query but its votes is read."""
    snapshot = build_snapshot(rollouts(traps=True))
    other = build_snapshot(
        [one | {"reward": 1.0 - one["reward"]} if int(one["query"][6:-1]) % 7 == 0 else one for one in rollouts(True)]
    )
    hidden = np.isin(snapshot.queries["text"].to_pylist(), [f"query {query}?" for query in range(0, QUERIES, 7)])
    shown = np.where(hidden[query_of_thinkings(snapshot)], np.nan, 1.0)
    settings = TrainSettings(members=2, epochs=10)
    one, two = (trained(each, rewards_of(each) * shown, settings) for each in (snapshot, other))
    assert one.trust == two.trust
    for first, second in zip(one.networks, two.networks, strict=True):
        assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_progress_adds_up(build_snapshot: Build) -> None:
    class Counting(Silent):
        done = 0

        def advance(self, count: int) -> None:
            self.done += count

    for rows in (rollouts(traps=True), rollouts(traps=True)[:20]):
        snapshot, progress = build_snapshot(rows), Counting()
        settings = TrainSettings(members=2, epochs=7)
        fit_correction(snapshot, seen(snapshot), settings, seed=0, device=torch.device("cpu"), progress=progress)
        assert progress.done == 14
