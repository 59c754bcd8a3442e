"""All groups of a query are scored in one pass, and each as if it were scored alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.separate import separate_groups
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import visible
from memstore_gnn.features.dawid_skene import NOBODY, posterior_of
from memstore_gnn.models.calibration import EDGE, log_odds, sigmoid
from memstore_gnn.models.network import NO_CORRECTION, Correction, RewardNetwork
from memstore_gnn.models.settings import NetworkSettings
from memstore_gnn.models.vote_graph import Voters, Votes, vote_graph
from memstore_gnn.scoring.ballots import Voter
from memstore_gnn.scoring.other_policies import StoredVotes, _fold, stored_votes

Build = Callable[..., Snapshot]
WHO = (("a", "r1", 1), ("a", "r2", 1), ("a", "r1", 2), ("b", "r1", None), ("b", "r3", None), (None, "r4", 1))
"""Policy, run and step; two runs share a policy and its step."""


def rows_of(seed: int, queries: int = 8, labelled: int = 3) -> list[dict[str, Any]]:
    """Groups of no to four rollouts. Some have no answer, and some texts occur in two runs of a policy."""
    chance, rows = np.random.default_rng(seed), []
    for query in range(queries):
        for policy, run, step in WHO:
            for sample in range(int(chance.integers(0, 5))):
                value = str(chance.integers(0, 4)) if chance.random() < 0.9 else ""
                text = f"it is {value}" if chance.random() < 0.5 else f"{run} {sample} says {value}"
                row = {"query": f"query {query}?", "value": value, "thinking": text, "sample_index": sample}
                row |= {"policy": policy, "run": run, "step": step}
                rows.append(row | ({"reward": float(value == "0")} if query < labelled else {}))
    return rows


def network() -> Correction:
    torch.manual_seed(0)
    made = RewardNetwork(NetworkSettings())
    torch.nn.init.normal_(made.head[-1].weight, 0.0, 0.5)
    return Correction((made.eval(),), 0.7)


def one_group(stored: StoredVotes, new: Snapshot, probability: np.ndarray, correction: Correction) -> np.ndarray:
    """The equation of `memstore_gnn.scoring.other_policies` for one group, vote by vote."""
    query = new.queries["id"][0].as_py()
    key = ("id", "policy", "step", "sample_index", "vector_key")
    group = [tuple(row.values()) for row in new.thinkings.select(key).to_pylist()]
    ids, copies = {one[0] for one in group}, {one[1:] for one in group}
    rows = stored.rows.get(query, np.zeros(0, np.int64))
    listed = stored.snapshot.thinkings.select(key).take(rows).to_pylist()
    kept = [n for n, row in enumerate(listed) if row["id"] not in ids and tuple(row.values())[1:] not in copies]
    if not kept:
        return probability
    answers = stored.snapshot.answers["id"].to_pylist()
    names = new.answers["id"].to_pylist()
    own = np.full(len(group), -1)
    own[new.edges["leads_to"].source] = new.edges["leads_to"].target
    given: list[str | None] = [names[at] if at >= 0 else None for at in own.tolist()]
    given += [answers[at] if (at := int(stored.answer[rows[n]])) >= 0 else None for n in kept]
    cast = [one[1:3] for one in group] + [tuple(listed[n].values())[1:3] for n in kept]
    parts = (cast, cast[: len(group)], cast[len(group) :])
    share, own_share, other_share = (np.array([Counter(part)[one] ** -0.5 for one in part]) for part in parts)
    found = stored.reliability[stored.dataset[query]][_fold(query)]
    place = [stored.voters.get(Voter(stored.dataset[query], *one), -1) for one in cast]
    voters = Voters.of(found, np.array(place))
    named = {name: n for n, name in enumerate(dict.fromkeys(name for name in given if name is not None))}
    answer = np.array([-1 if name is None else named[name] for name in given])
    zero = np.zeros(len(cast), np.int64)
    votes = Votes(np.arange(len(cast)), zero, answer, share, np.zeros(len(named), np.int64), 1)
    of_all = np.append(log_odds(votes.posterior(voters)) + correction.of(vote_graph(votes, voters)), 0.0)
    first = np.arange(len(group))
    support = replace(votes.take(first), share=own_share).support(voters)
    of_group = np.append(log_odds(posterior_of(support, votes.query_of, 1, np.full(len(support), np.nan), NOBODY)), 0.0)
    rest = slice(len(group), None)
    trust = np.minimum(1.0, voters.evidence[first] / np.average(voters.evidence[rest], weights=other_share))
    beyond = (1.0 - 1.0 / len(group) ** 2) * trust * (log_odds(probability) - of_group[answer[first]])
    return np.where(answer[first] >= 0, sigmoid(of_all[answer[first]] + beyond), np.minimum(probability, EDGE))


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("new", ["stored", "of a file"])
def test_groups_together_have_the_scores_of_each_alone(
    build_snapshot: Build, seed: int, trusted: bool, new: str
) -> None:
    memory = build_snapshot(rows_of(seed), dimension=8)
    stored = stored_votes(memory, verdicts_of(memory, visible(memory)))
    if new == "of a file":  # half of the rollouts are copies in another run, and others are not in the memory
        rows = [row | {"run": f"file {row['run']}"} for row in [*rows_of(seed)[::2], *rows_of(seed + 10, 10)]]
        memory = build_snapshot([{k: v for k, v in row.items() if k != "reward"} for row in rows], dimension=8)
    correction = network() if trusted else NO_CORRECTION
    group = groups_of(memory).policy_group.cell
    probability = np.random.default_rng(seed).uniform(0.05, 0.95, len(group))
    together = stored.adjust(probability, memory, correction, group)
    moved = 0
    for cell in np.unique(group):
        rows_in = group == cell
        alone = one_group(stored, some_rollouts(memory, rows_in), probability[rows_in], correction)
        assert together[rows_in] == pytest.approx(alone, abs=1e-6)
        moved += int(np.abs(alone - probability[rows_in]).max() > 0.01)
    assert moved > 10


def test_the_network_reads_one_graph_a_query_where_a_policy_has_one_group(build_snapshot: Build) -> None:
    rows = [row | {"run": "r", "step": n % 7, "sample_index": n} for n, row in enumerate(rows_of(0, 5, 0))]
    memory = build_snapshot(rows, dimension=8)
    stored, graphs = stored_votes(memory, verdicts_of(memory, visible(memory))), []

    class Counted(Correction):
        def of(self, data: Any) -> np.ndarray:
            graphs.append((len(data["query"].x), len(data["thinking"].x)))
            return np.zeros(len(data["answer"].x))

    group = groups_of(memory).policy_group.cell
    stored.adjust(np.full(len(rows), 0.5), memory, Counted(network().networks, 1.0), group)
    assert graphs == [(5, len(rows))]


def test_separated_groups_have_their_own_features(trained: Any, build_snapshot: Build) -> None:
    memory = build_snapshot(rows_of(1, 5, 0), dimension=16)
    group = groups_of(memory).policy_group.cell
    apart = separate_groups(memory, group)
    assert apart.thinkings is memory.thinkings
    assert np.array_equal(query_of_thinkings(apart), group)
    model = trained.model
    context = model.label_context(trained.snapshot, trained.reward)
    together = model.predict(apart, context)
    for cell in np.unique(group):
        rows = group == cell
        alone = model.predict(some_rollouts(memory, rows), context)
        assert together[rows] == pytest.approx(alone, abs=1e-6)
    whole = np.unique(query_of_thinkings(memory), return_inverse=True)[1]
    assert separate_groups(memory, whole) is memory
