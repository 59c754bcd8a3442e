"""Memory and labels change the scores of new rollouts; a query's own labels do not change its scores.

In the reference implementation, replacing every vector of the memory changes new scores by exactly 0.0, because its
edges carry messages from the new rollout into the memory. Each test here also holds for the networks alone, without the
base.
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


def with_random_heads(trained: Any) -> Any:
    """The model with random heads, without base and with a mixing weight of 1: the networks alone."""
    torch.manual_seed(0)
    networks = []
    for network in trained.model.networks:
        network = RewardNetwork(*network.widths, trained.model.card.settings.network)
        torch.nn.init.normal_(network.head.weight)
        networks.append(network.eval())
    base = replace(trained.model.base, weights=np.zeros_like(trained.model.base.weights))
    calibration = replace(trained.model.calibration, slope=1.0, mixing_weight=1.0, shift=0.0)
    model = replace(trained.model, networks=tuple(networks), base=base, calibration=calibration)
    return replace(trained, model=model)


@pytest.fixture(params=["trained", "networks alone"])
def subject(request: pytest.FixtureRequest, trained: Any) -> Any:
    return trained if request.param == "trained" else with_random_heads(trained)


def with_memory_vectors(subject: Any, seed: int) -> Snapshot:
    """The memory with permuted vectors of all queries and rollouts that are not new."""
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


def test_networks_use_the_memory_and_its_labels(trained: Any) -> None:
    random_heads = with_random_heads(trained)
    one = random_heads.model.label_context(random_heads.snapshot, random_heads.reward).labelled[0]
    target = random_heads.model._tensors(_target(random_heads))
    network = random_heads.model.networks[0]
    rows = torch.from_numpy(random_heads.new)
    with torch.inference_mode():
        states = network.encode(target)
        base = network.correct(target, states, one)[rows]
        relabelled = one._replace(thinking=one.thinking._replace(label=1 - one.thinking.label))
        assert (network.correct(target, states, relabelled)[rows] - base).abs().max() > 1e-3
        requeried = one._replace(query=one.query._replace(label=1 - one.query.label))
        assert (network.correct(target, states, requeried)[rows] - base).abs().max() > 1e-3
        flipped = one.thinking._replace(key=one.thinking.key.flip(0), value=one.thinking.value.flip(0))
        replaced = one._replace(thinking=flipped)
        assert (network.correct(target, states, replaced)[rows] - base).abs().max() > 1e-3


def test_ensemble_equals_its_networks_one_by_one(trained: Any) -> None:
    random_heads = with_random_heads(trained)
    context = random_heads.model.label_context(random_heads.snapshot, random_heads.reward)
    target = random_heads.model._tensors(_target(random_heads))
    with torch.inference_mode():
        each = [
            network.correct(target, network.encode(target), labelled)
            for network, labelled in zip(random_heads.model.networks, context.labelled, strict=True)
        ]
        at_once = context.ensemble.correct(target)
    assert len(each) > 1
    assert at_once.abs().max() > 1e-2
    torch.testing.assert_close(at_once, torch.stack(each), atol=1e-5, rtol=1e-5)


def _target(trained: Any) -> Any:
    from memstore_gnn.models.inputs import labelled_part, read_target

    part = labelled_part(trained.snapshot, trained.reward, trained.model.base.reliability)
    return read_target(trained.snapshot, part)


@pytest.mark.parametrize("query", [0, 7, 23])
def test_own_labels_do_not_change_own_scores(subject: Any, query: int) -> None:
    own = query_of_thinkings(subject.snapshot) == query
    before = subject.probability()[own]
    flipped = np.where(own, 1.0 - subject.reward, subject.reward)
    assert np.array_equal(subject.probability(reward=flipped)[own], before)


def test_labels_of_some_rollouts_do_not_change_scores_of_the_same_query(subject: Any) -> None:
    rows = np.flatnonzero(query_of_thinkings(subject.snapshot) == 5)
    half = subject.reward.copy()
    half[rows[:3]] = np.nan
    other = half.copy()
    other[rows[3:]] = 1.0 - half[rows[3:]]
    assert np.array_equal(subject.probability(reward=half)[rows], subject.probability(reward=other)[rows])


def test_scores_do_not_depend_on_the_batch(subject: Any) -> None:
    snapshot, context = subject.snapshot, subject.model.label_context(subject.snapshot, subject.reward)
    together = dict(zip(snapshot.thinkings["id"].to_pylist(), subject.model.predict(snapshot, context), strict=True))
    for query in snapshot.queries["id"].to_pylist()[-8:]:
        alone = subgraph(snapshot, [query])
        for rollout, probability in zip(
            alone.thinkings["id"].to_pylist(), subject.model.predict(alone, context), strict=True
        ):
            assert probability == pytest.approx(together[rollout], abs=1e-5)


def test_rollouts_with_the_same_answer_have_the_same_score(subject: Any) -> None:
    probability = subject.probability()
    leads = subject.snapshot.edges["leads_to"]
    for answer in np.unique(leads.target):
        assert np.ptp(probability[leads.source[leads.target == answer]]) < 1e-9


def test_policy_name_is_not_an_input(trained: Any) -> None:
    thinkings = trained.snapshot.thinkings
    column = thinkings.column_names.index("policy")
    renamed = thinkings.set_column(column, "policy", [["another"] * len(thinkings)])
    assert np.array_equal(trained.probability(replace(trained.snapshot, thinkings=renamed)), trained.probability())


def test_blocks_contain_whole_queries() -> None:
    query = torch.tensor([2, 0, 1, 0, 2, 2, 2, 2, 1])
    blocks = whole_queries(query, 3)
    assert sorted(torch.cat(blocks).tolist()) == list(range(9))
    assert [sorted(set(query[block].tolist())) for block in blocks] == [[0], [1], [2]]
    assert [len(block) for block in whole_queries(query, 4)] == [4, 5]
    assert len(whole_queries(query, 100)) == 1


def test_correction_is_zero_before_training() -> None:
    network = RewardNetwork(4, 3, 2, NetworkSettings(hidden=8, heads=2))
    assert not network.head.weight.any()
    assert not network.head.bias.any()
