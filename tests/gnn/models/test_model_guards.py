"""Memory and labels change the scores of new rollouts; a query's own labels do not change its scores.

In the reference implementation, replacing every vector of the memory changes new scores by exactly 0.0, because its
edges carry messages from the new rollout into the memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import subgraph


def with_memory_vectors(trained: Any, seed: int) -> Snapshot:
    """The memory with permuted vectors of all queries and rollouts that are not new."""
    rng = np.random.default_rng(seed)
    old = ~trained.new
    thinking_x, query_x = trained.snapshot.thinking_x.copy(), trained.snapshot.query_x.copy()
    thinking_x[old] = rng.permutation(thinking_x[old])
    remembered = np.unique(query_of_thinkings(trained.snapshot)[old])
    query_x[remembered] = rng.permutation(query_x[remembered])
    return replace(trained.snapshot, thinking_x=thinking_x, query_x=query_x)


def test_changing_the_memory_changes_new_scores(trained: Any) -> None:
    before = trained.probability()
    after = trained.probability(with_memory_vectors(trained, seed=1))
    assert np.abs(after - before)[trained.new].max() > 1e-4


def test_changing_the_memorys_labels_changes_new_scores(trained: Any) -> None:
    before = trained.probability()
    after = trained.probability(reward=1.0 - trained.reward)
    assert np.abs(after - before)[trained.new].max() > 1e-3


def test_removing_the_labels_changes_new_scores(trained: Any) -> None:
    before = trained.probability()
    after = trained.probability(reward=np.full_like(trained.reward, np.nan))
    assert np.isfinite(after).all()
    assert np.abs(after - before)[trained.new].max() > 1e-3


@pytest.mark.parametrize("query", [0, 7, 23])
def test_own_labels_do_not_change_own_scores(trained: Any, query: int) -> None:
    own = query_of_thinkings(trained.snapshot) == query
    before = trained.probability()[own]
    flipped = np.where(own, 1.0 - trained.reward, trained.reward)
    assert np.array_equal(trained.probability(reward=flipped)[own], before)


def test_labels_of_some_rollouts_do_not_change_scores_of_the_same_query(trained: Any) -> None:
    rows = np.flatnonzero(query_of_thinkings(trained.snapshot) == 5)
    half = trained.reward.copy()
    half[rows[:3]] = np.nan
    other = half.copy()
    other[rows[3:]] = 1.0 - half[rows[3:]]
    assert np.array_equal(trained.probability(reward=half)[rows], trained.probability(reward=other)[rows])


def test_scores_do_not_depend_on_the_batch(trained: Any) -> None:
    snapshot, context = trained.snapshot, trained.model.label_context(trained.snapshot, trained.reward)
    together = dict(zip(snapshot.thinkings["id"].to_pylist(), trained.model.predict(snapshot, context), strict=True))
    for query in snapshot.queries["id"].to_pylist()[-8:]:
        alone = subgraph(snapshot, [query])
        for rollout, probability in zip(
            alone.thinkings["id"].to_pylist(), trained.model.predict(alone, context), strict=True
        ):
            assert probability == pytest.approx(together[rollout], abs=1e-5)


def test_rollouts_with_the_same_answer_have_the_same_score(trained: Any) -> None:
    probability = trained.probability()
    leads = trained.snapshot.edges["leads_to"]
    for answer in np.unique(leads.target):
        assert np.ptp(probability[leads.source[leads.target == answer]]) < 1e-9


def test_policy_name_is_not_an_input(trained: Any) -> None:
    thinkings = trained.snapshot.thinkings
    column = thinkings.column_names.index("policy")
    renamed = thinkings.set_column(column, "policy", [["another"] * len(thinkings)])
    assert np.array_equal(trained.probability(replace(trained.snapshot, thinkings=renamed)), trained.probability())
