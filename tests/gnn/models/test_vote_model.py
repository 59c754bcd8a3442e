"""Vote model: a logistic regression on the votes of a group, kept with the reward model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import Groups, groups_of
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.models.checkpoint import load_model, save_model
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.vote_model import FEATURES, fit_votes
from memstore_gnn.training.fit import fit_prior


def groups(build_snapshot: Callable[..., Snapshot], counts: list[list[int]]) -> Groups:
    """Groups of rollouts with these votes for each answer."""
    rows = [
        {"query": f"query {number}?", "value": str(value), "thinking": f"{number} {value} {index}", "reward": 1.0}
        for number, votes in enumerate(counts)
        for value, count in enumerate(votes)
        for index in range(count)
    ]
    return groups_of(build_snapshot(rows))


def test_without_rows_it_is_the_smoothed_share(build_snapshot: Callable[..., Snapshot]) -> None:
    made = groups(build_snapshot, [[3, 1], [1, 1, 1, 1]])
    probability = fit_votes(made, np.zeros(0), np.zeros(0, np.int64)).probability(made)
    assert sorted(probability) == pytest.approx([1.5 / 5] * 5 + [3.5 / 5] * 3)
    assert probability == pytest.approx((made.votes + 0.5) / 5)


def test_it_learns_where_majorities_are_wrong(build_snapshot: Callable[..., Snapshot]) -> None:
    made = groups(build_snapshot, [[5, 3]] * 60)
    majority = made.share > 0.5
    rows = np.arange(len(majority))
    probability = fit_votes(made, (~majority).astype(np.float64), rows).probability(made)
    assert probability[majority].max() < 0.25 < 0.75 < probability[~majority].min()


def test_equal_answers_have_one_probability(trained: Any) -> None:
    made = groups_of(trained.snapshot)
    probability = trained.model.vote_model.probability(made)
    assert np.ptp(probability) > 0.1
    for cell in range(len(made.answer.count)):
        assert len(set(probability[made.answer.cell == cell].tolist())) == 1


def test_it_is_calibrated_on_the_labels_it_is_fitted_to(trained: Any) -> None:
    known = np.isfinite(trained.reward)
    probability = trained.model.vote_model.probability(groups_of(trained.snapshot))
    assert probability[known].mean() == pytest.approx(trained.reward[known].mean(), abs=0.05)


def test_without_labels_it_follows_the_prior(trained: Any) -> None:
    """What the prior predicts beyond the votes has no mean, neither for majorities nor for other answers."""
    model = fit_prior(trained.snapshot, SharedPrior.shipped())
    unlabelled = np.full(len(rewards_of(trained.snapshot)), np.nan)
    probability = model.predict(trained.snapshot, model.label_context(trained.snapshot, unlabelled))
    made = groups_of(trained.snapshot)
    residual, majority = probability - model.vote_model.probability(made), made.share > 0.5
    assert abs(residual[majority].mean()) < 0.03
    assert abs(residual[~majority].mean()) < 0.03
    beyond_share = probability - fit_votes(made, np.zeros(0), np.zeros(0, np.int64)).probability(made)
    assert np.abs(residual).mean() < np.abs(beyond_share).mean()


def test_checkpoint_keeps_it_bit_for_bit(trained: Any, tmp_path: Path) -> None:
    save_model(trained.model, tmp_path / "model")
    loaded = load_model(tmp_path / "model").vote_model
    assert loaded.weights.tolist() == trained.model.vote_model.weights.tolist()
    assert load_file(tmp_path / "model" / "model.safetensors")["votes.weights"].shape == (1 + len(FEATURES),)
