"""The gauge of a service: its metrics, audit groups, and what stopping does to responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore_gnn.monitoring.residual_gap import GroupGap
from memstore_rl.rewards.gauge import WITHHELD, Gauge
from memstore_rl.rewards.gauge_window import ScoredGroup
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.service.client import RewardClient
from memstore_rl.service.gauge_metrics import GaugeCollector
from memstore_rl.service.wire import request_json
from tests.rl.conftest import Rows, group_of

Served = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def scorer(trained_memory: Memory) -> Iterator[GroupScorer]:
    """The scorer that `served` serves."""
    with GroupScorer.open(trained_memory, shaping="residual") as opened:
        yield opened


def harmful(gauge: Gauge) -> None:
    """Show the gauge a memory that harms."""
    start = gauge.start([("r", -1)])
    truth = [Reward(0.0, "ground_truth", None, 8, False, None, True, 0.0)]
    gauge.observe([ScoredGroup(f"q{n}", start.steps[0], ["1"], truth, GroupGap(-0.3, True, 0.0)) for n in range(40)])


def metrics_of(gauge: Gauge) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(GaugeCollector(gauge))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def test_every_figure_is_a_metric() -> None:
    gauge = Gauge()
    empty = metrics_of(gauge)
    assert empty["memstore_gauge_stopped"] == 0
    assert empty["memstore_gauge_gap"] != empty["memstore_gauge_gap"]
    harmful(gauge)
    gauge.start([("r", 0)])
    metrics = metrics_of(gauge)
    assert (metrics["memstore_gauge_gap"], metrics["memstore_gauge_stopped"]) == (pytest.approx(-0.3), 1)
    assert metrics["memstore_gauge_ground_truth_share"] == 1
    assert set(metrics) == {f"memstore_gauge_{name}" for name in gauge.reading().metrics()}


def test_stopped_predictions_reach_the_client_as_unscored(
    served: Served, scorer: GroupScorer, groups: list[Group]
) -> None:
    harmful(scorer.gauge)
    with served() as endpoint, RewardClient(endpoint) as client:
        rewards = client.score_group(groups[0])
    for reward in rewards:
        assert (reward.value, reward.source, reward.withheld, reward.reason) == (None, "unscored", True, WITHHELD)


def test_audit_groups_are_judged_and_never_recorded(
    served: Served, scorer: GroupScorer, sample_rows: Rows, groups: list[Group]
) -> None:
    rows = next(iter(sample_rows.values()))
    group = group_of(rows, gold=rows[0]["gold"])
    audit = replace(group, query=replace(group.query, audit=True))
    with served() as endpoint, RewardClient(endpoint) as client:
        rewards = client.score_group(audit)
        assert {reward.source for reward in rewards} == {"ground_truth"}
        assert scorer.gauge.reading().audited == 1
        response = client._request("POST", "/v1/score", _body(audit))
        assert b'"recorded":0' in response
        assert b'"recorded":8' in client._request("POST", "/v1/score", _body(group))
        with pytest.raises(InputError, match="audit query without a gold answer"):
            client.score_group(replace(groups[0], query=replace(groups[0].query, audit=True)))


def _body(group: Group) -> bytes:
    return request_json([group], record=True)
