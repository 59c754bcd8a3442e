"""Gaps of the groups of a memory: one a policy and step, as if each had been sent alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.groups import groups_of
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.evaluation.memory_gaps import residual_gaps
from memstore_gnn.evaluation.promote import GAP_GROUPS, promote_model
from memstore_gnn.monitoring.residual_gap import group_gap
from memstore_gnn.verbs import open_model, train_memory

QUERIES = 60


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """Sums by a policy at two steps: for every second query most rollouts of step 0 agree on a wrong answer."""
    folder = tmp_path_factory.mktemp("gaps")
    rows = []
    for number in range(QUERIES):
        for sample in range(8):
            step = sample // 4
            wrong = sample % 4 > 0 if number % 2 and not step else sample % 4 == 0
            answer = str(number + 7 + wrong)
            row = {"query": f"How much is {number} + 7?", "query_id": f"sum-{number}", "dataset": "sums", "step": step}
            row |= {"domain": "math", "policy": "p", "run": "r", "answer": answer, "sample_index": sample}
            row["thinking"] = f"{'I guess ' if wrong else ''}{number} + 7 = {answer}"
            rows.append(row | {"reward": float(not wrong)})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([folder / "rows.jsonl"])
        for seed in (0, 1):
            train_memory(memory, epochs=1, seed=seed, budget=0.3, device="cpu")
        yield memory


def test_groups_are_of_one_policy_and_step_and_do_not_see_each_other(memory: Memory) -> None:
    snapshot, model = memory.snapshot(), open_model(memory)
    rows = np.ones(snapshot.thinkings.num_rows, np.bool_)
    rows[:3] = False
    probability = np.random.default_rng(0).random(int(rows.sum()))
    found = residual_gaps(model, snapshot, rows, probability)
    chosen = some_rollouts(snapshot, rows)
    cell = groups_of(chosen).policy_group.cell
    assert len(found) == cell.max() + 1 == 2 * QUERIES
    for number in range(0, len(found), 7):
        alone = some_rollouts(chosen, cell == number)
        groups = groups_of(alone)
        by_votes = model.vote_model.probability(groups)
        expected = group_gap(probability[cell == number], by_votes, groups.answer.cell, rewards_of(alone))
        assert found[number].gap == pytest.approx(expected, nan_ok=True)
    assert sum(one.gap.majority_wrong for one in found) >= QUERIES // 2 - 3


def test_promotion_compares_gaps(memory: Memory) -> None:
    report = promote_model(memory, least=5)
    (gap,) = [one for one in report.comparison if one.metric == "gap"]
    assert gap.candidate is not None
    assert gap.current is not None
    assert gap.difference == pytest.approx(gap.candidate - gap.current)
    assert (gap.error is None) == (report.fresh_queries // 2 < GAP_GROUPS)
