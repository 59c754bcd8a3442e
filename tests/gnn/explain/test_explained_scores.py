"""An effect is the score less the score of a memory without the rollout, labels or features."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.explain.explain import Explanation, explain
from memstore_gnn.explain.families import VECTORS, families, family_of
from memstore_gnn.explain.influences import Influence
from memstore_gnn.explain.scene import Removed, Scene, scene_of
from memstore_gnn.scoring.score import score_memory

CLOSE = 1e-6


@pytest.fixture(scope="module")
def scene(planted: Any) -> Scene:
    return scene_of(planted.model, planted.snapshot, planted.reward, planted.row(planted.scored))


@pytest.fixture(scope="module")
def explained(scene: Scene) -> Explanation:
    return explain(scene)


def score(planted: Any, snapshot: Snapshot | None = None, reward: FloatVector | None = None) -> float:
    """The score of the rollout when the whole memory is scored."""
    snapshot = planted.snapshot if snapshot is None else snapshot
    labels = planted.reward if reward is None else reward
    scores = score_memory(planted.model, snapshot, np.ones(len(labels), np.bool_), reward=labels)
    return float(scores.probability[scores.id.tolist().index(planted.scored)])


def of_kind(explained: Explanation, kind: str) -> list[Influence]:
    return [one for one in explained.influences if one.kind == kind]


def test_the_explained_score_is_that_of_scoring(planted: Any, explained: Explanation) -> None:
    assert explained.probability == pytest.approx(score(planted), abs=CLOSE)
    assert (explained.group, explained.votes, explained.source) == (4, 1, "predicted")
    sizes = [abs(one.weight) for one in explained.influences]
    assert sizes == sorted(sizes, reverse=True)
    for one in explained.influences:
        assert one.effect == pytest.approx(explained.probability - one.without, abs=1e-12)


def test_the_most_influential_neighbour_comes_first(planted: Any) -> None:
    """A group of one whose vector equals that of one labelled rollout and is far from all others."""
    row, query = planted.row(planted.scored), query_of_thinkings(planted.snapshot)
    lone = (query != query[row]) | (np.arange(len(query)) == row)
    snapshot, reward = some_rollouts(planted.snapshot, lone), planted.reward[lone]
    alone = explain(scene_of(planted.model, snapshot, reward, planted._replace(snapshot=snapshot).row(planted.scored)))
    owner = planted.snapshot.queries["id"][int(query[planted.row(planted.near)])].as_py()
    nodes = [one for one in alone.influences if one.kind in ("labelled query", "labelled rollout")]
    nodes.sort(key=lambda one: -abs(one.effect))
    assert {nodes[0].id, nodes[1].id} == {planted.near, owner}
    first = next(one for one in nodes if one.id == planted.near)
    assert (first.kind, first.label) == ("labelled rollout", 0.0)
    assert first.similarity == pytest.approx(1.0, abs=1e-5)
    assert first.effect < -1e-3
    assert all(abs(other.effect) < abs(first.effect) / 2 for other in nodes[2:])


def test_effects_of_rollouts_equal_their_removal(planted: Any, explained: Explanation) -> None:
    ids = planted.snapshot.thinkings["id"].to_numpy()
    others = of_kind(explained, "rollout")
    assert len(others) == 3
    for one in others:
        gone = ids == one.id
        without = score(planted, some_rollouts(planted.snapshot, ~gone), planted.reward[~gone])
        assert one.without == pytest.approx(without, abs=CLOSE), one


def test_effects_of_labels_equal_their_removal(planted: Any, explained: Explanation) -> None:
    ids, query = planted.snapshot.thinkings["id"].to_numpy(), query_of_thinkings(planted.snapshot)
    owner = planted.snapshot.queries["id"].to_numpy()[query]
    labelled = of_kind(explained, "labelled query") + of_kind(explained, "labelled rollout")
    assert len(of_kind(explained, "labelled rollout")) == 16
    assert len(of_kind(explained, "labelled query")) >= 16
    for one in labelled:
        gone = (ids == one.id) | (owner == one.id)
        assert one.taken == np.isfinite(planted.reward[gone]).sum()
        assert one.label == pytest.approx(np.nanmean(planted.reward[gone]))
        assert one.without == pytest.approx(score(planted, reward=np.where(gone, np.nan, planted.reward)), abs=CLOSE)


def test_the_effect_of_a_family_equals_zero_weights_in_the_base(planted: Any) -> None:
    """The model is a regression, and masking a feature sets its weight to zero."""
    bare = planted.model
    subject = planted._replace(model=bare)
    scene = scene_of(bare, planted.snapshot, planted.reward, planted.row(planted.scored))
    base = bare.base
    columns = [None, None, None, *map(family_of, base.scale.names), *(None for _ in base.near.names)]
    assert {VECTORS, "length", "wording"} <= set(families(bare))
    for family, size in families(bare).items():
        gone = np.array([name == family for name in columns])
        assert gone.sum() == size
        lesser = replace(base, weights=np.where(gone, 0.0, base.weights))
        expected = score(subject._replace(model=replace(bare, base=lesser)))
        found = scene.probability(Removed(families=frozenset([family])))
        assert found == pytest.approx(expected, abs=CLOSE), family


def test_every_family_is_an_item_of_the_answer(planted: Any, explained: Explanation) -> None:
    features = of_kind(explained, "features")
    assert {one.text for one in features} == set(families(planted.model))
    (answer,) = {one.id for one in features}
    assert answer in planted.snapshot.answers["id"].to_pylist()


def test_a_lone_rollout_without_labels_near_is_explained_by_its_features(planted: Any) -> None:
    query = query_of_thinkings(planted.snapshot)
    row = planted.row(planted.scored)
    lone = (query != query[row]) | (np.arange(len(query)) == row)
    snapshot = some_rollouts(planted.snapshot, lone)
    nothing = np.full(int(lone.sum()), np.nan)
    alone = explain(scene_of(planted.model, snapshot, nothing, int(np.flatnonzero(lone).tolist().index(row))))
    assert (alone.group, alone.votes) == (1, 1)
    assert {one.kind for one in alone.influences} == {"features", "prior"}


def test_the_rollouts_own_label_has_no_influence(planted: Any) -> None:
    row = planted.row(planted.scored)
    labels = planted.reward.copy()
    labels[row] = 1.0
    explained = explain(scene_of(planted.model, planted.snapshot, labels, row))
    assert explained.probability == pytest.approx(score(planted), abs=CLOSE)
    assert explained.rollout not in {one.id for one in explained.influences}
    assert explained.query not in {one.id for one in explained.influences}


def test_a_memory_is_reduced_without_a_change_of_the_explanation(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two neighbours instead of sixteen, most of the planted memory has no influence."""
    monkeypatch.setattr("memstore_gnn.models.inputs.NEIGHBOURS", 2)
    monkeypatch.setattr("memstore_gnn.explain.scene.NEIGHBOURS", 2)
    cut = scene_of(planted.model, planted.snapshot, planted.reward, planted.row(planted.scored))
    labelled = len(np.unique(query_of_thinkings(planted.snapshot)[np.isfinite(planted.reward)]))
    assert 2 < cut.memory.queries.num_rows < labelled
    assert len(cut.labels) == np.isfinite(planted.reward).sum()
    owner = planted.snapshot.queries["id"].to_numpy()[query_of_thinkings(planted.snapshot)]
    ids = planted.snapshot.thinkings["id"].to_numpy()
    explained = explain(cut)
    assert len(of_kind(explained, "labelled rollout")) == 2
    for one in explained.influences:
        gone = (ids == one.id) | (owner == one.id)
        if one.kind in ("labelled query", "labelled rollout"):
            without = score(planted, reward=np.where(gone, np.nan, planted.reward))
            assert one.without == pytest.approx(without, abs=CLOSE), one
