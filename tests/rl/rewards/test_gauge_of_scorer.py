"""The gauge of a real scorer: what it predicts, what it leaves alone, and what stopping does to rewards."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pytest

from memstore.embedding.cached import embed_cached
from memstore.errors import InputError
from memstore.memory import Memory
from memstore_gnn.models.stored_model import open_model
from memstore_gnn.monitoring.residual_gap import GroupGap, group_gap
from memstore_rl.rewards.gauge import WITHHELD, Gauge, GaugeSettings
from memstore_rl.rewards.gauge_window import ScoredGroup
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.memory_model import MemoryModel
from memstore_rl.rewards.reward import Group, Reward
from tests.rl.conftest import Rows, group_of


@pytest.fixture(scope="module")
def labelled(sample_rows: Rows) -> list[Group]:
    """The groups with their gold answers."""
    return [group_of(rows, gold=rows[0]["gold"]) for rows in sample_rows.values()]


def at_step(group: Group, step: int) -> Group:
    return replace(group, rollouts=[replace(rollout, step=step) for rollout in group.rollouts])


def values(scored: list[list[Reward]]) -> list[list[tuple[float | None, str]]]:
    return [[(reward.value, reward.source) for reward in group] for group in scored]


def harmful(gauge: Gauge) -> None:
    """Show the gauge a memory that harms, at steps before all others."""
    start = gauge.start([("r", -1)])
    gap = GroupGap(-0.3, True, 0.0)
    truth = [Reward(0.0, "ground_truth", None, 8, False, None, True, 0.0)]
    gauge.observe([ScoredGroup(f"bad-{n}", start.steps[0], ["1"], truth, gap) for n in range(40)])


def test_labelled_groups_are_judged_by_what_the_model_predicts_without_their_label(
    trained_memory: Memory, groups: list[Group], labelled: list[Group]
) -> None:
    with GroupScorer.open(trained_memory, shaping="residual") as scorer:
        predicted = scorer.score_groups(groups)
        assert scorer.gauge.reading().judged == 0
        truth = scorer.score_groups(labelled)
        reading = scorer.gauge.reading()
    expected = [
        group_gap(
            np.array([reward.probability for reward in of_model]),
            np.array([reward.by_votes for reward in of_model]),
            np.unique(
                [rollout.response.rsplit("####", 1)[-1].strip() for rollout in group.rollouts], return_inverse=True
            )[1],  # type: ignore[union-attr]
            np.array([reward.value for reward in of_group]),
        )
        for group, of_model, of_group in zip(labelled, predicted, truth, strict=True)
    ]
    mixed = [one for one in expected if one.mixed]
    wrong = [one.gap for one in mixed if one.majority_wrong]
    assert reading.judged == len(labelled)
    assert (reading.mixed_groups, reading.gap_groups) == (len(mixed), len(wrong))
    assert reading.mixed_gap == pytest.approx(np.mean([one.gap for one in mixed]), abs=2e-6)
    assert reading.gap == pytest.approx(np.mean(wrong), abs=2e-6)
    assert reading.auc == pytest.approx(np.mean([one.auc for one in mixed]), abs=1e-6)


def test_the_gauge_changes_no_reward_and_feeds_no_monitor(
    trained_memory: Memory, groups: list[Group], labelled: list[Group]
) -> None:
    batch = [*groups[:6], *labelled[6:12]]
    with (
        GroupScorer.open(trained_memory) as with_gauge,
        GroupScorer.open(trained_memory, gauge=GaugeSettings(share=0.0)) as without,
    ):
        assert with_gauge.model is not None
        assert with_gauge.model.vote_drift is not None
        seen: list[int] = []
        observe = with_gauge.model.vote_drift.observe
        with_gauge.model.vote_drift.observe = lambda new: (seen.append(new.queries.num_rows), observe(new))[1]  # type: ignore[method-assign]
        assert values(with_gauge.score_groups(batch)) == values(without.score_groups(batch))
        assert seen == [6]
        assert with_gauge.gauge.reading().judged == 6
        assert without.gauge.reading().judged == 0


def test_a_memory_that_harms_leaves_unlabelled_groups_unscored(
    trained_memory: Memory, groups: list[Group], labelled: list[Group], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    batch = [*groups[:4], *labelled[4:8]]
    with GroupScorer.open(trained_memory) as scorer, GroupScorer.open(mode="budget") as budget:
        harmful(scorer.gauge)
        scored = scorer.score_groups(batch)
        assert values(scored) == values(budget.score_groups(batch))
        for reward in scored[0]:
            assert (reward.withheld, reward.reason, reward.probability, reward.model) == (True, WITHHELD, None, None)
        assert not any(reward.withheld for reward in scored[4])
        assert scorer.gauge.stopped
        reading = scorer.gauge.reading()
        assert (reading.withheld, reading.judged) == (4, 44)
        assert "predictions are withheld" in caplog.text


def test_warn_goes_on(trained_memory: Memory, groups: list[Group]) -> None:
    with GroupScorer.open(trained_memory, gauge=GaugeSettings(when_harmful="warn")) as scorer:
        harmful(scorer.gauge)
        assert {reward.source for reward in scorer.score_groups(groups[:2])[0]} == {"predicted"}
        assert scorer.gauge.reading().harmful


def test_remembered_verdicts_stand_when_predictions_stop(trained_memory: Memory, sample_rows: Rows) -> None:
    """The answers that the memory has judged keep their verdicts."""
    known = [group_of(rows) for rows in list(sample_rows.values())[:40]]
    known = [replace(group, query=replace(group.query, remember=True)) for group in known]
    with GroupScorer.open(trained_memory) as scorer:
        before = scorer.score_groups(known)
        harmful(scorer.gauge)
        after = scorer.score_groups([at_step(group, 2) for group in known])
    for old, new in zip(chain(*before), chain(*after), strict=True):
        assert (new.value, new.source) == (
            (old.value, old.source) if old.source == "remembered" else (None, "unscored")
        )
    assert {"remembered", "unscored"} == {reward.source for group in after for reward in group}


def test_audit_groups_get_ground_truth_and_are_judged(trained_memory: Memory, labelled: list[Group]) -> None:
    audit = [replace(group, query=replace(group.query, audit=True)) for group in labelled[:10]]
    with GroupScorer.open(trained_memory, gauge=GaugeSettings(share=0.0)) as scorer:
        scored = scorer.score_groups(audit)
        reading = scorer.gauge.reading()
    assert {reward.source for group in scored for reward in group} == {"ground_truth"}
    assert (reading.judged, reading.audited, reading.groups) == (10, 10, 0)
    with GroupScorer.open(mode="budget") as budget:
        assert values(budget.score_groups(audit)) == values(scored)
        assert budget.gauge.reading().judged == 0


def test_audit_query_without_gold(trained_memory: Memory, groups: list[Group]) -> None:
    error = pytest.raises(InputError, match="is of an audit query without a gold answer, so it measures nothing")
    with GroupScorer.open(trained_memory) as scorer, error:
        scorer.score_groups([replace(groups[0], query=replace(groups[0].query, audit=True))])


def test_policy_that_stops_answering(trained_memory: Memory, groups: list[Group], labelled: list[Group]) -> None:
    """Groups that all decline teach nothing: the run goes on, and the gauge has nothing to judge."""
    batch = [
        replace(
            group,
            rollouts=[replace(rollout, response="I cannot answer this.", step=step) for rollout in group.rollouts],
        )
        for step in range(30)
        for group in (groups[0], labelled[1])
    ]
    with GroupScorer.open(trained_memory, shaping="residual") as scorer:
        scored = [scorer.score_groups(batch[at : at + 2]) for at in range(0, len(batch), 2)]
        reading = scorer.gauge.reading()
    assert all(len({reward.value for reward in group}) == 1 for pair in scored for group in pair)
    assert (reading.judged, reading.mixed_groups, reading.silent_share, reading.stopped) == (30, 0, 1.0, False)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_model_that_predicts_the_opposite_is_stopped(
    trained_memory: Memory, groups: list[Group], labelled: list[Group], sign: int
) -> None:
    """The same model with its weights turned prefers minorities. Each step has the labelled groups and one other."""
    model = open_model(trained_memory, device="cpu")
    turned = replace(model, base=replace(model.base, weights=sign * model.base.weights))
    embed = partial(embed_cached, trained_memory.embedder, trained_memory.cache)
    with GroupScorer(MemoryModel(turned, trained_memory.snapshot(), embed), shaping="residual") as scorer:
        stopped = []
        for step in range(12):
            scored = scorer.score_groups([at_step(group, step) for group in [groups[0], *labelled]])
            stopped.append(all(reward.withheld for reward in scored[0]))
        reading = scorer.gauge.reading()
    assert reading.mixed_groups >= 30
    assert reading.mixed_gap is not None
    assert reading.mixed_gap * sign > 0
    assert stopped[0] is False
    assert stopped[-1] is (sign < 0)
    assert reading.stopped is (sign < 0)


def test_validation_groups_are_no_part_of_the_figures(
    trained_memory: Memory, groups: list[Group], labelled: list[Group]
) -> None:
    with GroupScorer.open(trained_memory) as scorer:
        scorer.score_groups([at_step(groups[0], 1)])
        for group in labelled[1:4]:
            scorer.score_groups([replace(group, mode="oracle")])
        reading = scorer.gauge.reading()
    assert (reading.steps, reading.groups, reading.sources) == (1, 1, {"predicted": 1.0})


@pytest.mark.parametrize(("share", "step", "may"), [(0.0, 1, False), (0.0, None, False), (1.0, None, True)])
def test_programs_of_groups_outside_the_share_are_not_run(
    trained_memory: Memory, labelled: list[Group], share: float, step: int | None, may: bool
) -> None:
    rollouts = [replace(rollout, step=step) for rollout in labelled[0].rollouts]
    with GroupScorer.open(trained_memory, gauge=GaugeSettings(share=share)) as scorer:
        (verified,) = scorer.verify([replace(labelled[0], rollouts=rollouts)])
        assert scorer._may_predict(verified) == may
