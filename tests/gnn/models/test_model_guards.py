"""What the reference implementation lacks: memory and labels move a new rollout's score, its own labels never do.

In the reference, replacing every remembered vector changes new scores by exactly 0.0 (its edges carry messages from
the new rollout into the memory). Each test here also holds for the networks alone, without the base.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import subgraph
from memstore_gnn.models.network import RewardNetwork, whole_queries
from memstore_gnn.models.settings import NetworkSettings


def untrained_but_awake(trained: Any) -> Any:
    """The model with heads that are not zero, no base, and full trust: what the networks do by themselves."""
    torch.manual_seed(0)
    networks = []
    for network in trained.model.networks:
        network = RewardNetwork(*network.widths, trained.model.card.settings.network)
        torch.nn.init.normal_(network.head.weight)
        networks.append(network.eval())
    base = replace(trained.model.base, weights=np.zeros_like(trained.model.base.weights))
    calibration = replace(trained.model.calibration, slope=1.0, trust=1.0, shift=0.0)
    model = replace(trained.model, networks=tuple(networks), base=base, calibration=calibration)
    return replace(trained, model=model)


@pytest.fixture(params=["trained", "networks alone"])
def subject(request: pytest.FixtureRequest, trained: Any) -> Any:
    return trained if request.param == "trained" else untrained_but_awake(trained)


def with_memory_vectors(subject: Any, seed: int) -> Snapshot:
    """The memory with other vectors for every query and rollout that is not new."""
    rng = np.random.default_rng(seed)
    old = ~subject.new
    thinking_x, query_x = subject.snapshot.thinking_x.copy(), subject.snapshot.query_x.copy()
    thinking_x[old] = rng.permutation(thinking_x[old])
    remembered = np.unique(query_of_thinkings(subject.snapshot)[old])
    query_x[remembered] = rng.permutation(query_x[remembered])
    return replace(subject.snapshot, thinking_x=thinking_x, query_x=query_x)


def test_changing_the_memory_changes_new_scores(subject: Any) -> None:
    before = subject.probability()
    after = subject.probability(with_memory_vectors(subject, seed=1))
    assert np.abs(after - before)[subject.new].max() > 1e-3


def test_changing_the_memorys_labels_changes_new_scores(subject: Any) -> None:
    before = subject.probability()
    after = subject.probability(reward=1.0 - subject.reward)
    assert np.abs(after - before)[subject.new].max() > 1e-3


def test_removing_the_labels_changes_new_scores(subject: Any) -> None:
    before = subject.probability()
    after = subject.probability(reward=np.full_like(subject.reward, np.nan))
    assert np.isfinite(after).all()
    assert np.abs(after - before)[subject.new].max() > 1e-3


def test_the_networks_use_the_memory_and_its_labels_each(trained: Any) -> None:
    awake = untrained_but_awake(trained)
    one = awake.model.recall(awake.snapshot, awake.reward).memories[0]
    target = awake.model._tensors(_target(awake))
    network = awake.model.networks[0]
    rows = torch.from_numpy(awake.new)
    with torch.inference_mode():
        states = network.encode(target)
        base = network.correct(target, states, one)[rows]
        relabelled = one._replace(thinking=one.thinking._replace(label=1 - one.thinking.label))
        assert (network.correct(target, states, relabelled)[rows] - base).abs().max() > 1e-3
        requeried = one._replace(query=one.query._replace(label=1 - one.query.label))
        assert (network.correct(target, states, requeried)[rows] - base).abs().max() > 1e-3
        flipped = one.thinking._replace(source=one.thinking.source.flip(0), value=one.thinking.value.flip(0))
        replaced = one._replace(thinking=flipped)
        assert (network.correct(target, states, replaced)[rows] - base).abs().max() > 1e-3


def test_all_networks_at_once_say_what_each_says(trained: Any) -> None:
    awake = untrained_but_awake(trained)
    recollection = awake.model.recall(awake.snapshot, awake.reward)
    target = awake.model._tensors(_target(awake))
    with torch.inference_mode():
        each = [
            network.correct(target, network.encode(target), memory)
            for network, memory in zip(awake.model.networks, recollection.memories, strict=True)
        ]
        at_once = recollection.ensemble.correct(target)
    assert len(each) > 1
    assert at_once.abs().max() > 1e-2
    torch.testing.assert_close(at_once, torch.stack(each), atol=1e-5, rtol=1e-5)


def _target(trained: Any) -> Any:
    from memstore_gnn.models.inputs import labelled_part, read_target

    part = labelled_part(trained.snapshot, trained.reward, trained.model.base.reliability)
    return read_target(trained.snapshot, part)


@pytest.mark.parametrize("query", [0, 7, 23])
def test_own_labels_never_move_own_scores(subject: Any, query: int) -> None:
    own = query_of_thinkings(subject.snapshot) == query
    before = subject.probability()[own]
    flipped = np.where(own, 1.0 - subject.reward, subject.reward)
    assert np.array_equal(subject.probability(reward=flipped)[own], before)


def test_labels_of_part_of_a_query_do_not_move_the_rest_of_it(subject: Any) -> None:
    rows = np.flatnonzero(query_of_thinkings(subject.snapshot) == 5)
    half = subject.reward.copy()
    half[rows[:3]] = np.nan
    other = half.copy()
    other[rows[3:]] = 1.0 - half[rows[3:]]
    assert np.array_equal(subject.probability(reward=half)[rows], subject.probability(reward=other)[rows])


def test_scores_do_not_depend_on_the_batch(subject: Any) -> None:
    snapshot, recollection = subject.snapshot, subject.model.recall(subject.snapshot, subject.reward)
    together = dict(
        zip(snapshot.thinkings["id"].to_pylist(), subject.model.predict(snapshot, recollection), strict=True)
    )
    for query in snapshot.queries["id"].to_pylist()[-8:]:
        alone = subgraph(snapshot, [query])
        for rollout, probability in zip(
            alone.thinkings["id"].to_pylist(), subject.model.predict(alone, recollection), strict=True
        ):
            assert probability == pytest.approx(together[rollout], abs=1e-5)


def test_rollouts_with_the_same_answer_have_the_same_score(subject: Any) -> None:
    probability = subject.probability()
    leads = subject.snapshot.edges["leads_to"]
    for answer in np.unique(leads.target):
        assert np.ptp(probability[leads.source[leads.target == answer]]) < 1e-9


def test_the_policys_name_is_no_input(trained: Any) -> None:
    thinkings = trained.snapshot.thinkings
    column = thinkings.column_names.index("policy")
    renamed = thinkings.set_column(column, "policy", [["another"] * len(thinkings)])
    assert np.array_equal(trained.probability(replace(trained.snapshot, thinkings=renamed)), trained.probability())


def test_whole_queries_are_never_cut() -> None:
    query = torch.tensor([2, 0, 1, 0, 2, 2, 2, 2, 1])
    blocks = whole_queries(query, 3)
    assert sorted(torch.cat(blocks).tolist()) == list(range(9))
    assert [sorted(set(query[block].tolist())) for block in blocks] == [[0], [1], [2]]
    assert [len(block) for block in whole_queries(query, 4)] == [4, 5]
    assert len(whole_queries(query, 100)) == 1


def test_a_network_corrects_nothing_before_training() -> None:
    network = RewardNetwork(4, 3, 2, NetworkSettings(hidden=8, heads=2))
    assert not network.head.weight.any()
    assert not network.head.bias.any()
