"""The gauge on simulated groups: its figures, and when it stops the predictions."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from memstore.errors import InputError
from memstore_gnn.monitoring.residual_gap import GroupGap, group_gap
from memstore_rl.rewards import gauge as gauge_module
from memstore_rl.rewards.gauge import BLIND_STEPS, Gauge, GaugeSettings
from memstore_rl.rewards.gauge_window import HISTORY, GaugeWindow, ScoredGroup, StepKey
from memstore_rl.rewards.reward import Reward, Source

N = 8


def rewards(source: Source = "predicted", *, silent: bool = False, withheld: bool = False) -> list[Reward]:
    value = None if source == "unscored" else 0.5
    one = Reward(value, source, 0.5, N, False, "m", True, 0.0, silent=silent, withheld=withheld)
    return [one] * N


def simulated(chance: np.random.Generator, lead: float) -> GroupGap:
    """A group whose majority is wrong: its votes say so, and the model gives right rollouts `lead` more."""
    truth = np.array([0.0] * 5 + [1.0] * 3)
    by_votes = np.where(truth > 0, 0.3, 0.6)
    probability = np.clip(by_votes + lead * truth + 0.1 * chance.standard_normal(N), 0, 1)
    return group_gap(probability, by_votes, truth.astype(np.int64), truth)


def labelled_group(query: str, step: StepKey, gap: GroupGap) -> ScoredGroup:
    return ScoredGroup(query, step, ["1"] * N, rewards("ground_truth"), gap)


def train(gauge: Gauge, steps: range, lead: float, groups: int = 4, run: str = "r") -> list[bool]:
    """Score steps of labelled groups and of one unlabelled group; return whether each step was withheld."""
    stopped = []
    for step in steps:
        chance = np.random.default_rng(step)
        start = gauge.start([(run, step)] * (groups + 1))
        stopped.append(start.stopped)
        labelled = [
            ScoredGroup(
                f"q{step * groups + n}", start.steps[n], ["1"] * N, rewards("ground_truth"), simulated(chance, lead)
            )
            for n in range(groups)
        ]
        unlabelled = rewards("unscored", withheld=True) if start.stopped else rewards()
        gauge.observe([*labelled, ScoredGroup(f"u{step}", start.steps[-1], ["1"] * N, unlabelled)])
    return stopped


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == gauge_module.__name__]


def test_memory_that_helps_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    gauge = Gauge()
    assert not any(train(gauge, range(100), lead=0.2))
    assert logged(caplog) == []
    reading = gauge.reading()
    assert reading.gap == pytest.approx(0.2, abs=0.02)
    assert reading.gap_low is not None
    assert 0 < reading.gap_low < 0.2
    assert (reading.steps, reading.groups, reading.judged, reading.gap_groups) == (100, 500, 400, 400)
    assert reading.sources == {"ground_truth": 0.8, "predicted": 0.2}
    assert not reading.stopped


def test_memory_that_harms_is_stopped_as_soon_as_there_are_enough_groups(caplog: pytest.LogCaptureFixture) -> None:
    gauge = Gauge(GaugeSettings(least=30))
    stopped = train(gauge, range(20), lead=-0.2)
    assert stopped == [step * 4 >= 30 for step in range(20)]
    (warning,) = logged(caplog)
    assert "in 32 groups whose majority is wrong, and" in warning
    assert "predictions are withheld" in warning
    reading = gauge.reading()
    assert (reading.harmful, reading.stopped) == (True, True)
    assert reading.withheld == sum(stopped)


@pytest.mark.parametrize(
    ("lead", "others", "stopped"), [(0.0, 0.0, True), (0.0, 0.3, False), (-0.3, 0.3, True), (0.3, -0.3, True)]
)
def test_other_mixed_groups_speak_for_the_memory_unless_the_harm_is_certain(
    lead: float, others: float, stopped: bool
) -> None:
    """`lead` in the groups whose majority is wrong, `others` in twice as many whose majority is right."""
    gauge = Gauge(GaugeSettings(least=30))
    for step in range(40):
        start = gauge.start([("r", step)])
        chance = np.random.default_rng(step)
        right = [GroupGap(others + 0.1 * chance.standard_normal(), False, 1.0) for _ in range(2)]
        gaps = [simulated(chance, lead + 0.04 * (-1) ** step), *right]
        gauge.observe([labelled_group(f"q{step}-{n}", start.steps[0], gap) for n, gap in enumerate(gaps)])
    assert gauge.stopped is stopped


def test_predictions_come_back_when_the_memory_helps_again(caplog: pytest.LogCaptureFixture) -> None:
    """The groups from before the change do not count, so nothing switches back and forth."""
    gauge = Gauge(GaugeSettings(least=30))
    train(gauge, range(20), lead=-0.2)
    stopped = train(gauge, range(20, 60), lead=0.2)
    assert stopped == sorted(stopped, reverse=True)
    assert stopped[0]
    assert not stopped[-1]
    assert [("withheld" in message, "helps again" in message) for message in logged(caplog)] == [
        (True, False),
        (False, True),
    ]


def test_warning_only(caplog: pytest.LogCaptureFixture) -> None:
    gauge = Gauge(GaugeSettings(when_harmful="warn", least=30))
    assert not any(train(gauge, range(20), lead=-0.2))
    (warning,) = logged(caplog)
    assert warning.endswith("predictions go on (when_harmful=warn)")
    assert gauge.reading().harmful
    assert not gauge.reading().stopped


def test_too_few_groups_change_nothing() -> None:
    gauge = Gauge(GaugeSettings(least=30))
    assert not any(train(gauge, range(7), lead=-0.5))
    assert gauge.reading().gap_groups == 28


def test_repeated_query_is_no_evidence_of_harm() -> None:
    """Thirty groups of one query have no interval."""
    gauge = Gauge()
    for step in range(60):
        start = gauge.start([("r", step)])
        group = ScoredGroup("q", start.steps[0], ["1"] * N, rewards("ground_truth"), GroupGap(-0.5, True, 0.0))
        assert not start.stopped
        gauge.observe([group])
    assert gauge.reading().gap_low is None


def test_the_same_groups_in_smaller_batches_give_the_same_decisions() -> None:
    def decisions(parts: int) -> list[bool]:
        gauge, found = Gauge(GaugeSettings(least=30)), []
        for step in range(20):
            chance = np.random.default_rng(step)
            gaps = [simulated(chance, -0.2) for _ in range(4)]
            for part in np.array_split(np.arange(4), parts):
                start = gauge.start([("r", step)] * len(part))
                found.append(start.stopped)
                gauge.observe([labelled_group(f"q{4 * step + n}", start.steps[0], gaps[n]) for n in part])
        return found[::parts]

    assert decisions(1) == decisions(2) == decisions(4)


def test_batches_without_a_step_are_steps() -> None:
    gauge = Gauge(GaugeSettings(window=3))
    keys = [gauge.start([("r", None), ("r", None)]).steps for _ in range(5)]
    assert all(one[0] == one[1] for one in keys)
    assert len({one[0] for one in keys}) == 5
    assert gauge.reading().steps == 3


def test_only_the_latest_steps_count() -> None:
    gauge = Gauge(GaugeSettings(window=10))
    train(gauge, range(10), lead=-0.2, groups=1)
    train(gauge, range(10, 20), lead=0.3, groups=1)
    reading = gauge.reading()
    assert (reading.steps, reading.gap_groups) == (10, 10)
    assert reading.gap == pytest.approx(0.3, abs=0.1)


def test_flips_of_majorities_between_steps() -> None:
    """Query a flips, b stays, c ties with its old answer, d has no majority, e is seen twice in one step."""
    window = GaugeWindow(10, 30)
    first = {"a": "1112", "b": "1112", "c": "1112", "d": "1234", "e": "1112"}
    second = {"a": "2221", "b": "1113", "c": "1122", "d": "1234", "e": "1112"}
    for step, seen in enumerate((first, second)):
        window.start([("r", step)])
        for query, answers in seen.items():
            window.add(ScoredGroup(query, ("r", step), list(answers), rewards()))
    window.add(ScoredGroup("e", ("r", 1), list("2223"), rewards()))
    reading = window.reading(harmful=False, stopped=False, withheld=0)
    assert reading.flip_share == pytest.approx(1 / 4)


def test_majorities_are_compared_within_a_run() -> None:
    """Both runs keep their majority, whichever the other has."""
    window = GaugeWindow(10, 30)
    for step in (1, 2, 3):
        for run, answers in (("r", "1112"), ("s", "2221")):
            window.start([(run, step)])
            window.add(ScoredGroup("a", (run, step), list(answers), rewards()))
    assert window.reading(harmful=False, stopped=False, withheld=0).flip_share == 0.0


def test_the_history_has_each_step_and_why_it_was_withheld() -> None:
    """It goes on beyond the window, within a bound, and counts groups that come late to a step."""
    gauge = Gauge(GaugeSettings(window=15, least=30))
    stopped = train(gauge, range(20), lead=-0.2)
    late = gauge.start([("r", 18)])
    gauge.observe([ScoredGroup("u", late.steps[0], ["1"] * N, rewards(silent=True))])
    history = gauge.history()
    assert [(one.run, one.step) for one in history] == [("r", step) for step in range(20)]
    assert [one.stopped for one in history] == stopped
    assert history[0].gap is None
    assert (history[8].gap_groups, history[8].gap) == (32, pytest.approx(-0.2, abs=0.05))
    assert (history[3].groups, history[3].judged, history[3].predicted) == (5, 4, 1)
    assert history[3].sources == {"ground_truth": 32, "predicted": 8}
    assert (history[18].predicted, history[18].silent) == (1, 1)
    assert gauge.decision is not None
    assert "in 32 groups whose majority is wrong" in gauge.decision
    window = GaugeWindow(10, 30)
    for step in range(HISTORY + 20):
        window.start([("r", step)])
    assert [one.step for one in window.history()] == list(range(10, HISTORY + 20))


def test_silent_share_is_of_predicted_groups() -> None:
    window = GaugeWindow(10, 30)
    window.start([("r", 0)])
    for group in (rewards(silent=True), rewards(), rewards(), rewards("ground_truth"), rewards("remembered")):
        window.add(ScoredGroup("q", ("r", 0), [None] * N, group))
    assert window.reading(harmful=False, stopped=False, withheld=0).silent_share == pytest.approx(1 / 3)


def test_audit_groups_are_judged_but_not_counted_as_trained() -> None:
    gauge = Gauge()
    start = gauge.start([("r", 0)])
    gap = GroupGap(0.1, True, 1.0)
    gauge.observe([ScoredGroup("q", start.steps[0], ["1"] * N, rewards("ground_truth"), gap, audit=True)])
    reading = gauge.reading()
    assert (reading.groups, reading.judged, reading.audited, reading.gap) == (0, 1, 1, pytest.approx(0.1))
    assert reading.sources == {}


def test_enough_audit_groups_decide_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The memory seems to help on the labelled groups and harms on those of audit queries."""
    gauge, stopped = Gauge(GaugeSettings(least=30)), list[bool]()
    for step in range(40):
        start = gauge.start([("r", step)])
        stopped.append(start.stopped)
        chance = np.random.default_rng(step)
        labelled = [labelled_group(f"q{step}-{n}", start.steps[0], simulated(chance, 0.6)) for n in range(4)]
        audit = labelled_group(f"audit-{step}", start.steps[0], simulated(chance, -0.2))
        gauge.observe([*labelled, replace(audit, audit=True)])
    assert stopped == [step >= 30 for step in range(40)]
    assert "in 30 groups whose majority is wrong, and" in logged(caplog)[0]


def test_gauge_that_cannot_judge_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    gauge = Gauge()
    train(gauge, range(3 * BLIND_STEPS), lead=0.0, groups=0)
    (warning,) = logged(caplog)
    assert warning.startswith(f"none of the groups of the latest {BLIND_STEPS} steps is labelled or of an audit query")
    assert gauge.reading().gap is None


def test_sampling_is_a_function_of_query_and_step() -> None:
    gauge, other = Gauge(GaugeSettings(share=0.25)), Gauge(GaugeSettings(share=0.25))
    pairs = [(f"q{n}", ("r", step)) for n in range(200) for step in range(10)]
    chosen = [gauge.samples(*pair) for pair in pairs]
    assert chosen == [other.samples(*pair) for pair in pairs]
    assert np.mean(chosen) == pytest.approx(0.25, abs=0.04)
    assert not any(Gauge(GaugeSettings(share=0.0)).samples(*pair) for pair in pairs)


def test_threads_lose_no_group() -> None:
    gauge = Gauge(GaugeSettings(least=30))
    threads = [
        threading.Thread(target=train, args=(gauge, range(50), 0.2), kwargs={"run": f"run-{n}", "groups": 2})
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading = gauge.reading()
    assert (reading.steps, reading.judged, reading.groups) == (200, 400, 600)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"when_harmful": "ignore"}, "when_harmful is 'ignore'; use one of stop, warn"),
        ({"share": 1.5}, "share is 1.5; it must be between 0 and 1"),
        ({"share": float("nan")}, "it must be between 0 and 1"),
        ({"window": 0}, "window is 0 steps; use 1 or more"),
        ({"least": 1}, "decides from 1 groups; an interval needs 2 or more"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GaugeSettings(**settings)  # type: ignore[arg-type]


def test_a_stop_by_mixed_groups_ends_by_mixed_groups() -> None:
    """Without groups whose majority is wrong, those that stopped the predictions bring them back."""
    gauge = Gauge(GaugeSettings(least=30, window=60))

    def step_of(number: int, lead: float) -> bool:
        start = gauge.start([("r", number)] * 4)
        chance = np.random.default_rng(number)
        gaps = [simulated(chance, lead)._replace(majority_wrong=False) for _ in range(4)]
        gauge.observe([labelled_group(f"q{number}-{n}", start.steps[n], gap) for n, gap in enumerate(gaps)])
        return start.stopped

    assert [step_of(number, -0.2) for number in range(20)][-1]
    assert not [step_of(number, 0.2) for number in range(20, 200)][-1]
