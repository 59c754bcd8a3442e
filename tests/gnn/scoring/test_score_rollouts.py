"""A rollout has the same score from a file and in the memory, alone and with other groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstore.errors import InputError, ModelError
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts, subgraph
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.overlay import overlay
from memstore_gnn.metrics import auc
from memstore_gnn.models.checkpoint import load_model, save_model
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.scoring.score import score_memory, score_rollouts
from memstore_gnn.training.fit import fit


def without(trained: Any, rows: np.ndarray) -> tuple[Snapshot, Snapshot, np.ndarray]:
    """The memory without some rollouts, these rollouts as a snapshot of their own, and the memory's labels."""
    thinkings = trained.snapshot.thinkings["id"].to_numpy()
    gone = set(thinkings[rows])
    kept = np.array([name not in gone for name in thinkings])
    return some_rollouts(trained.snapshot, kept), some_rollouts(trained.snapshot, ~kept), trained.reward[kept]


def test_labelled_rollouts_are_scored_only_on_request(trained: Any) -> None:
    scores = score_memory(trained.model, trained.snapshot, reward=trained.reward)
    ids = trained.snapshot.thinkings["id"].to_numpy()
    assert scores.id.tolist() == ids[trained.new].tolist()
    assert np.allclose(scores.probability, trained.probability()[trained.new], atol=1e-6)
    assert set(scores.source) == {"predicted"}
    assert np.array_equal(scores.reward, scores.probability)
    everything = score_memory(trained.model, trained.snapshot, np.ones(len(ids), np.bool_), reward=trained.reward)
    assert len(everything.id) == len(ids)
    labelled = ~trained.new
    assert set(everything.source[labelled]) == {"ground_truth"}
    assert np.array_equal(everything.reward[labelled], trained.reward[labelled])
    assert not np.array_equal(everything.probability[labelled], trained.reward[labelled])


def test_fully_labelled_memory_has_no_scores(trained: Any) -> None:
    assert not len(score_memory(trained.model, trained.snapshot).id)


def test_new_queries_have_the_same_scores_as_in_the_memory(trained: Any) -> None:
    inside = dict(zip(*score_memory(trained.model, trained.snapshot, reward=trained.reward)[:2], strict=True))
    memory, new, reward = without(trained, np.flatnonzero(trained.new))
    scores = score_rollouts(trained.model, memory, new, reward=reward)
    assert sorted(scores.id) == sorted(inside)
    for rollout, probability in zip(scores.id, scores.probability, strict=True):
        assert probability == pytest.approx(inside[rollout], abs=1e-4)


def test_rollouts_of_the_memory_do_not_vote(trained: Any) -> None:
    """Two rollouts of an unlabelled and two of a labelled query, with and without those of the memory."""
    query = query_of_thinkings(trained.snapshot)
    rows = np.concatenate((np.flatnonzero(query == 27)[:2], np.flatnonzero(query == 3)[:2]))
    memory, new, labels = without(trained, rows)
    context = trained.model.label_context(memory, labels)
    scores = score_rollouts(trained.model, memory, new, reward=labels, context=context)
    strangers = subgraph(memory, [name for name in memory.queries["id"].to_pylist() if name not in _ids(new)])
    alone = score_rollouts(trained.model, strangers, new, context=context)
    assert np.array_equal(scores.probability, alone.probability)


def test_groups_of_one_query_do_not_affect_each_other(trained: Any, build_snapshot: Callable[..., Snapshot]) -> None:
    """Groups of two steps, two policies and two runs have the same scores alone as together."""
    rows = []
    for number, who in enumerate(({"step": 1}, {"step": 2}, {"step": 2, "policy": "other"}, {"run": "other"})):
        for sample in range(3 + number):
            row = {"query": "How much is 1 + 1?", "value": str(2 + (sample + number) % 3), "sample_index": sample}
            rows.append(row | {"thinking": f"It is {row['value']}, I think."} | who)
    rows.append({"query": "How much is 2 + 2?", "value": "4", "thinking": "It is 4."})
    new = build_snapshot(rows, dimension=16)
    context = trained.model.label_context(trained.snapshot, trained.reward)
    scores = score_rollouts(trained.model, trained.snapshot, new, reward=trained.reward, context=context)
    own = groups_of(new).policy_group.cell
    assert len(set(own)) == 5
    for group in set(own):
        expected = trained.model.predict(some_rollouts(new, own == group), context)
        assert scores.probability[own == group] == pytest.approx(expected, abs=1e-6)
    assert not np.allclose(trained.model.predict(new, context), scores.probability)


def _ids(snapshot: Snapshot) -> set[str]:
    return set(snapshot.queries["id"].to_pylist())


def test_scores_of_one_group_equal_those_of_all_groups(trained: Any) -> None:
    memory, new, reward = without(trained, np.flatnonzero(trained.new))
    context = trained.model.label_context(memory, reward)
    together = score_rollouts(trained.model, memory, new, reward=reward, context=context)
    by_id = dict(zip(together.id, together.probability, strict=True))
    for query in new.queries["id"].to_pylist():
        one = score_rollouts(trained.model, memory, subgraph(new, [query]), reward=reward, context=context)
        for rollout, probability in zip(one.id, one.probability, strict=True):
            assert probability == pytest.approx(by_id[rollout], abs=1e-5)


@pytest.fixture(scope="module")
def programs(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """16 tasks with programs; right programs behave alike and are never written alike."""
    rng = np.random.default_rng(0)
    rows = []
    for task in range(16):
        query = f'def add(x):\n    """Add {task}.\n    >>> add(1)\n    {task + 1}\n    """\n'
        for sample in range(4):
            right = rng.random() < 0.6
            body = f"    y{sample} = x + {task if right else task + 1 + sample}\n    return y{sample}\n"
            row = {"query": query, "key": str(task), "domain": "code", "dataset": "tasks", "reward": float(right)}
            rows.append(row | {"value": body, "answer": body, "thinking": f"attempt {sample}", "sample_index": sample})
    return build_snapshot(rows)


def test_programs_are_scored_by_behaviour_alone_and_in_the_memory(programs: Snapshot, tmp_path: Path) -> None:
    reward = np.where(query_of_thinkings(programs) % 2 == 0, rewards_of(programs), np.nan)
    save_model(fit(programs, reward, settings=TrainSettings(members=2, epochs=10), device="cpu"), tmp_path)
    model = load_model(tmp_path)
    context = model.label_context(programs, reward)
    together = model.predict(programs, context)
    new = ~np.isfinite(reward)
    assert auc(together[new], rewards_of(programs)[new]) == 1.0
    by_id = dict(zip(programs.thinkings["id"].to_pylist(), together, strict=True))
    for query in programs.queries["id"].to_pylist():
        alone = subgraph(programs, [query])
        for rollout, probability in zip(alone.thinkings["id"].to_pylist(), model.predict(alone, context), strict=True):
            assert probability == pytest.approx(by_id[rollout], abs=1e-5)


def test_rollouts_of_another_embedder_raise(trained: Any) -> None:
    new = subgraph(trained.snapshot, trained.snapshot.queries["id"].to_pylist()[-1:])
    other = replace(new, manifest=replace(new.manifest, embedder="another"))
    with pytest.raises(ModelError, match="embedder"):
        score_rollouts(trained.model, trained.snapshot, other, reward=trained.reward)
    narrow = replace(new, thinking_x=new.thinking_x[:, :4], query_x=new.query_x[:, :4])
    with pytest.raises(InputError, match="dimension 4 and the memory's have 16"):
        overlay(trained.snapshot, narrow)
