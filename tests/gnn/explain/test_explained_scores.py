"""An effect is what it says: the score, less the score of a memory in which the thing is not there."""

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
from memstore_gnn.explain.families import LABELS as LABELS_NEAR
from memstore_gnn.explain.families import SKILLED, VECTORS, VOTES, families, family_of
from memstore_gnn.explain.influences import Influence
from memstore_gnn.explain.scene import Scene, scene_of
from memstore_gnn.scoring.score import score_memory

CLOSE = 1e-6


@pytest.fixture(scope="module")
def scene(planted: Any) -> Scene:
    return scene_of(planted.model, planted.snapshot, planted.reward, planted.row(planted.scored))


@pytest.fixture(scope="module")
def explained(scene: Scene) -> Explanation:
    return explain(scene)


def score(planted: Any, snapshot: Snapshot | None = None, reward: FloatVector | None = None) -> float:
    """What scoring all of a memory says of the rollout."""
    snapshot = planted.snapshot if snapshot is None else snapshot
    labels = planted.reward if reward is None else reward
    scores = score_memory(planted.model, snapshot, only_unlabelled=False, reward=labels)
    return float(scores.probability[scores.id.tolist().index(planted.scored)])


def of_kind(explained: Explanation, kind: str) -> list[Influence]:
    return [one for one in explained.influences if one.kind == kind]


def test_it_explains_the_score_that_scoring_gives(planted: Any, explained: Explanation) -> None:
    assert explained.probability == pytest.approx(score(planted), abs=CLOSE)
    assert (explained.group, explained.votes, explained.source) == (4, 1, "predicted")
    sizes = [abs(one.effect) for one in explained.influences]
    assert sizes == sorted(sizes, reverse=True)
    for one in explained.influences:
        assert one.effect == pytest.approx(explained.probability - one.without, abs=1e-12)


def test_the_neighbour_that_matters_comes_first(planted: Any) -> None:
    """Of a rollout that is alone in its group and lies where one labelled rollout lies, far from all others."""
    row, query = planted.row(planted.scored), query_of_thinkings(planted.snapshot)
    lone = (query != query[row]) | (np.arange(len(query)) == row)
    snapshot, reward = some_rollouts(planted.snapshot, lone), planted.reward[lone]
    alone = explain(scene_of(planted.model, snapshot, reward, planted._replace(snapshot=snapshot).row(planted.scored)))
    owner = planted.snapshot.queries["id"][int(query[planted.row(planted.near)])].as_py()
    nodes = [one for one in alone.influences if one.kind in ("rollout", "labelled query", "labelled rollout")]
    assert {nodes[0].id, nodes[1].id} == {planted.near, owner}
    first = next(one for one in nodes if one.id == planted.near)
    assert (first.kind, first.label) == ("labelled rollout", 0.0)
    assert first.similarity == pytest.approx(1.0, abs=1e-5)
    assert first.effect < -1e-3
    assert all(abs(other.effect) < abs(first.effect) / 2 for other in nodes[2:])


def test_rollouts_and_votes_are_what_a_memory_without_them_lacks(planted: Any, explained: Explanation) -> None:
    ids = planted.snapshot.thinkings["id"].to_numpy()
    leads = planted.snapshot.edges["leads_to"]
    answer = dict(zip(ids[leads.source], planted.snapshot.answers["id"].to_numpy()[leads.target], strict=True))
    siblings, votes = of_kind(explained, "rollout"), of_kind(explained, "votes")
    assert len(siblings) == 3
    assert sum(one.taken for one in votes) == 3
    for one in siblings + votes:
        gone = np.array([name == one.id or (answer[name] == one.id and name != planted.scored) for name in ids])
        assert gone.sum() == one.taken
        without = score(planted, some_rollouts(planted.snapshot, ~gone), planted.reward[~gone])
        assert one.without == pytest.approx(without, abs=CLOSE), one


def test_labels_are_what_a_memory_without_them_lacks(planted: Any, explained: Explanation) -> None:
    ids, query = planted.snapshot.thinkings["id"].to_numpy(), query_of_thinkings(planted.snapshot)
    owner = planted.snapshot.queries["id"].to_numpy()[query]
    (every,) = of_kind(explained, "labels")
    assert every.taken == np.isfinite(planted.reward).sum()
    assert every.without == pytest.approx(score(planted, reward=np.full(len(ids), np.nan)), abs=CLOSE)
    labelled = of_kind(explained, "labelled query") + of_kind(explained, "labelled rollout")
    assert len(of_kind(explained, "labelled rollout")) == 16
    assert len(of_kind(explained, "labelled query")) >= 16
    for one in labelled:
        gone = (ids == one.id) | (owner == one.id)
        assert one.taken == np.isfinite(planted.reward[gone]).sum()
        assert one.label == pytest.approx(np.nanmean(planted.reward[gone]))
        assert one.without == pytest.approx(score(planted, reward=np.where(gone, np.nan, planted.reward)), abs=CLOSE)


def test_a_family_is_what_the_base_lacks_without_its_weights(planted: Any) -> None:
    """Without networks the model is a regression, and a feature that is not there is one whose weight is zero."""
    bare = replace(planted.model, networks=())
    subject = planted._replace(model=bare)
    scene = scene_of(bare, planted.snapshot, planted.reward, planted.row(planted.scored))
    base = bare.base
    columns = ["votes", "skilled votes", "", *map(family_of, base.scale.names), *([LABELS_NEAR] * len(base.near.names))]
    assert {VOTES, SKILLED, VECTORS, LABELS_NEAR} <= set(families(bare))
    for family, size in families(bare).items():
        gone = np.array(columns) == family
        assert gone[3:].sum() == size
        lesser = replace(base, weights=np.where(gone, 0.0, base.weights))
        expected = score(subject._replace(model=replace(bare, base=lesser)))
        assert scene.without_family(family) == pytest.approx(expected, abs=CLOSE), family


def test_a_blind_model_does_not_see_the_family(planted: Any, explained: Explanation) -> None:
    assert {one.id for one in of_kind(explained, "features")} == set(families(planted.model))
    near = next(one for one in of_kind(explained, "features") if one.id == LABELS_NEAR)
    assert abs(near.effect) > CLOSE


def test_a_lone_rollout_without_labels_near_is_explained_by_its_features(planted: Any) -> None:
    query = query_of_thinkings(planted.snapshot)
    row = planted.row(planted.scored)
    lone = (query != query[row]) | (np.arange(len(query)) == row)
    snapshot = some_rollouts(planted.snapshot, lone)
    nothing = np.full(int(lone.sum()), np.nan)
    alone = explain(scene_of(planted.model, snapshot, nothing, int(np.flatnonzero(lone).tolist().index(row))))
    assert (alone.group, alone.votes) == (1, 1)
    assert {one.kind for one in alone.influences} == {"features"}


def test_the_rollouts_own_label_is_no_part_of_it(planted: Any) -> None:
    row = planted.row(planted.scored)
    told = planted.reward.copy()
    told[row] = 1.0
    explained = explain(scene_of(planted.model, planted.snapshot, told, row))
    assert explained.probability == pytest.approx(score(planted), abs=CLOSE)
    assert explained.rollout not in {one.id for one in explained.influences}
    assert explained.query not in {one.id for one in explained.influences}


def test_a_memory_is_cut_to_what_could_matter_and_says_the_same(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two neighbours instead of sixteen, most of the planted memory is too far to matter."""
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
        gone = (ids == one.id) | (owner == one.id) | (one.kind == "labels")
        if one.kind in ("labels", "labelled query", "labelled rollout"):
            without = score(planted, reward=np.where(gone, np.nan, planted.reward))
            assert one.without == pytest.approx(without, abs=CLOSE), one
