"""Scores of a group do not depend on the other groups of a call, whatever the groups contain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import subgraph
from memstore_gnn.scoring.score import score_rollouts

CLOSE = 1e-5
DIMENSION = 16


def odd_groups(build_snapshot: Callable[..., Snapshot], groups: int, seed: int = 0) -> Snapshot:
    """Groups of 1 to 40 rollouts with and without answers, thinkings and vectors, and with repeated texts."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    vectors: list[Any] = []
    query_x = {}
    for number in range(groups):
        text = f"Group {number} of seed {seed}: how much is {number} + 1?"
        if number % 5:
            query_x[text] = unit(rng)
        kind = {"dataset": f"unseen-{number % 3}", "domain": ("math", "qa", "code", "other")[number % 4]}
        for sample in range(int(rng.integers(1, 41)) if number % 3 else 1):
            value = "" if rng.random() < 0.2 else str(number + int(rng.integers(0, 3)))
            thinking = "" if rng.random() < 0.2 else f"It is {number} + 1 = {value}."
            rows.append({"query": text, "value": value, "thinking": thinking, "sample_index": sample} | kind)
            vectors.append(unit(rng) if thinking else None)
    return build_snapshot(rows, query_x, vectors, dimension=DIMENSION)


def unit(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=DIMENSION)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def by_id(trained: Any, new: Snapshot, context: Any) -> dict[str, float]:
    scores = score_rollouts(trained.model, trained.snapshot, new, reward=trained.reward, context=context)
    assert np.isfinite(scores.probability).all()
    assert ((scores.probability > 0) & (scores.probability < 1)).all()
    return dict(zip(scores.id.tolist(), scores.probability.tolist(), strict=True))


@pytest.fixture(scope="module")
def context(trained: Any) -> Any:
    return trained.model.label_context(trained.snapshot, trained.reward)


def test_irregular_groups_have_the_same_scores_alone_and_together(
    trained: Any, context: Any, build_snapshot: Callable[..., Snapshot]
) -> None:
    new = odd_groups(build_snapshot, 30)
    together = by_id(trained, new, context)
    assert len(together) == new.thinkings.num_rows
    for query in new.queries["id"].to_pylist():
        for rollout, probability in by_id(trained, subgraph(new, [query]), context).items():
            assert probability == pytest.approx(together[rollout], abs=CLOSE)


def test_thousand_groups_have_the_same_scores_as_a_few(
    trained: Any, context: Any, make_world: Callable[..., Snapshot]
) -> None:
    new = make_world(queries=1000, group=4, seed=9)
    together = by_id(trained, new, context)
    ids = np.random.default_rng(0).permutation(new.queries["id"].to_pylist()).tolist()
    for few in (ids[:1], ids[1:3], ids[3:40], ids[40:300]):
        for rollout, probability in by_id(trained, subgraph(new, few), context).items():
            assert probability == pytest.approx(together[rollout], abs=CLOSE)


def test_identical_rollouts_have_one_score_and_two_votes(
    trained: Any, context: Any, build_snapshot: Callable[..., Snapshot]
) -> None:
    vector = unit(np.random.default_rng(1))
    row = {"query": "How much is 1 + 1?", "domain": "math"}
    first = row | {"value": "2", "thinking": "1 + 1 = 2.", "sample_index": 0}
    other = row | {"value": "3", "thinking": "1 + 1 = 3.", "sample_index": 1}
    once = build_snapshot([first, other], {}, [vector, vector], DIMENSION)
    twice = build_snapshot([first, other, first | {"sample_index": 2}], {}, [vector, vector, vector], DIMENSION)
    scores = by_id(trained, twice, context)
    same = [i for i, text in enumerate(twice.thinkings["text"].to_pylist()) if text == "1 + 1 = 2."]
    names = twice.thinkings["id"].to_pylist()
    assert len(same) == 2
    assert scores[names[same[0]]] == pytest.approx(scores[names[same[1]]], abs=1e-9)
    alone = by_id(trained, once, context)
    assert scores[names[same[0]]] > min(alone[name] for name in names if name in alone)


def test_empty_rollout_is_scored(trained: Any, context: Any, build_snapshot: Callable[..., Snapshot]) -> None:
    """One rollout without answer, thinking or vector, of a query without a vector, in an unknown data set."""
    empty = build_snapshot([{"query": " ", "value": "", "dataset": "nowhere"}], dimension=DIMENSION)
    (probability,) = by_id(trained, empty, context).values()
    assert 0.0 < probability < 1.0


def test_empty_snapshot_has_empty_scores(trained: Any, context: Any, build_snapshot: Callable[..., Snapshot]) -> None:
    assert by_id(trained, build_snapshot([], dimension=DIMENSION), context) == {}


def test_scores_do_not_depend_on_the_order_of_the_memory(trained: Any, make_world: Callable[..., Snapshot]) -> None:
    """Label context of half of the queries, from the whole memory and from those queries alone."""
    known = np.isfinite(trained.reward)
    labelled = np.unique(query_of_thinkings(trained.snapshot)[known])
    part = subgraph(trained.snapshot, trained.snapshot.queries["id"].to_numpy()[labelled].tolist())
    new = make_world(queries=5, seed=4)
    whole = by_id(trained, new, trained.model.label_context(trained.snapshot, trained.reward))
    alone = by_id(trained, new, trained.model.label_context(part, trained.reward[known]))
    assert alone == pytest.approx(whole, abs=1e-9)
