"""Training in place: the service goes on scoring, changes to the new model as a whole, and survives every failure."""

from __future__ import annotations

import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError, ModelError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.models.checkpoint import load_model
from memstore_rl.rewards import memory_model
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.service import retraining as module
from memstore_rl.service.client import RewardClient, ServiceError
from memstore_rl.service.metrics import Metrics
from memstore_rl.service.retraining import Retrainer, RetrainingRuns, RetrainSettings
from memstore_rl.service.serve import ServeOptions, serve
from tests.rl.service.training_services import WAIT_S, group, serving


def test_call_trains_on_what_was_recorded_and_the_service_uses_the_model(folder: Path) -> None:
    with serving(folder) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        [before] = served.models
        new = group(40, 1, gold=False)
        assert {reward.model for reward in client.score_group(new, record=False)} == {before}
        client.score_groups([group(number, 1) for number in range(20, 30)])
        model = client.retrain()
        assert model != before
        assert served.models == [model, before]
        rewards = client.score_group(new, record=False)
        assert {reward.model for reward in rewards} == {model}
        card = load_model(served.memory.models_folder / model).card
        assert card.settings.epochs == 2
        assert sum(card.queries.values()) == 22  # the memory's twelve, and the ten that were acknowledged before
        metrics = served.service.metrics.text().decode()
        assert "memstore_retrained_total 1.0" in metrics
        assert "memstore_retrain_failed_total 0.0" in metrics
        assert "memstore_retraining 0.0" in metrics
        assert not (folder / "service" / module.FOLDER).exists()
    with Memory.open(folder, embedder=HashEmbedder()) as memory, GroupScorer.open(memory, device="cpu") as scorer:
        assert scorer.model is not None
        assert scorer.model.model.card.id == model


@pytest.mark.usefixtures("trains_here")
def test_new_verdicts_count_with_the_new_model(folder: Path) -> None:
    asked = group(21, 2, gold=False)
    with serving(folder) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        assert {reward.source for reward in client.score_group(asked, record=False)} == {"predicted"}
        client.score_group(group(21, 1))
        client.retrain()
        rewards = client.score_group(asked, record=False)
        assert [(reward.source, reward.value) for reward in rewards[:2]] == [("remembered", 1.0), ("remembered", 0.0)]


@pytest.mark.usefixtures("trains_here")
def test_steps_trigger_a_training_on_earlier_steps_only(folder: Path) -> None:
    with serving(folder, every=2) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        for step in (1, 2, 3):  # 2 is a multiple; 3 is not a new one
            client.score_groups([group(20 + step, step), group(30 + step, step)])
            served.trained()
        assert served.retrainer.status.number == 1
        assert (served.retrainer.status.step, served.retrainer.status.error) == (2, None)
        card = load_model(served.memory.models_folder / str(served.retrainer.status.model)).card
        assert sum(card.queries.values()) == 14  # twelve, and the two of step 1
        client.score_groups([group(50, 4)], record=False)  # not recorded: a validation
        assert served.retrainer.status.number == 1
        client.score_groups([group(50, 4)])
        served.trained()
        assert (served.retrainer.status.number, served.retrainer.status.step) == (2, 4)
        client.score_groups([group(50, 9, run="other")])  # its first step
        assert served.retrainer.status.number == 2
        client.score_groups([group(50, 10, run="other")])
        served.trained()
        assert (served.retrainer.status.number, served.retrainer.status.step) == (3, 10)


@pytest.mark.usefixtures("trains_here")
def test_rollouts_of_the_triggering_step_wait_until_the_snapshot_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, recorded, taken = module.prepare, threading.Event(), []

    def wait_and_prepare(memory: Memory, *given: Any, **options: Any) -> list[str]:
        assert recorded.wait(WAIT_S)  # the triggering step is acknowledged before the snapshot is taken
        command = prepare(memory, *given, **options)
        taken.append(set(memory.graph.nodes("Thinking", ["step"])["step"].to_pylist()))
        return command

    monkeypatch.setattr(module, "prepare", wait_and_prepare)
    with serving(folder, every=2) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        client.score_group(group(21, 1))
        client.score_group(group(22, 2))
        recorded.set()
        served.trained()
        assert taken == [{None, 1}]
    with Memory.open(folder, embedder=HashEmbedder()) as memory:
        assert set(memory.graph.nodes("Thinking", ["step"])["step"].to_pylist()) == {None, 1, 2}


def test_scoring_goes_on_with_one_model_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients ask once while the child trains, and without a pause while the service changes to its model."""
    groups = [group(number, 1, gold=False) for number in range(60, 64)]
    changing, stop, trained_model = threading.Event(), threading.Event(), module.trained_model

    def note_the_change(job: Path) -> Path:
        changing.set()
        return trained_model(job)

    def ask(endpoint: str) -> list[tuple[float, str]]:
        seen = []
        with RewardClient(endpoint, deadline_s=WAIT_S) as client:
            while not stop.is_set():
                for rewards in client.score_groups(groups, record=False):
                    assert len({reward.model for reward in rewards}) == 1
                    seen.append((rewards[0].value, rewards[0].model))
                assert changing.wait(WAIT_S)
        return seen

    monkeypatch.setattr(module, "trained_model", note_the_change)
    with serving(folder) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        client.score_groups([group(number, 1) for number in range(20, 30)])
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, served.endpoint) for _ in range(4)]
            model = client.retrain()
            client.score_groups(groups, record=False)
            stop.set()
            seen = [pair for one in asked for pair in one.result(WAIT_S)]
        models = [name for _, name in seen]
        assert set(models) <= set(served.models)
        assert models.count(served.models[1]) > 0
        assert client.score_group(groups[0], record=False)[0].model == model


@pytest.mark.usefixtures("trains_here")
def test_second_call_is_refused_while_one_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, prepare = threading.Event(), threading.Event(), module.prepare

    def wait_and_prepare(*given: Any, **options: Any) -> list[str]:
        begun.set()
        assert go_on.wait(WAIT_S)
        return prepare(*given, **options)

    monkeypatch.setattr(module, "prepare", wait_and_prepare)
    with serving(folder) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.retrain)
            assert begun.wait(WAIT_S)
            with pytest.raises(ServiceError, match="did not begin: the reward model is being trained already"):
                client.retrain()
            request = urllib.request.Request(f"{served.endpoint}/v1/retrain", method="POST")
            with pytest.raises(urllib.error.HTTPError, match="409"):
                urllib.request.urlopen(request)
            go_on.set()
            assert first.result(WAIT_S) == served.models[0]
        assert len(served.models) == 1  # nothing was new: it is the same model again


@pytest.mark.usefixtures("trains_here")
def test_client_waits_for_its_own_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another training begins, and fails, before the client asks whether its own has ended."""
    info, second = RewardClient.info, threading.Event()
    with serving(folder) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:

        def info_after_another(self: RewardClient) -> dict[str, Any]:
            if not second.is_set():
                second.set()
                served.trained()
                with monkeypatch.context() as patched:
                    patched.setattr(module, "prepare", fail)
                    served.retrainer.start()
                    served.trained()
            return info(self)

        monkeypatch.setattr(RewardClient, "info", info_after_another)
        assert client.retrain() == served.models[0]
        assert client.info()["retraining"]["error"] == "the disk is on fire"


def test_a_refused_request_triggers_no_training(folder: Path) -> None:
    with serving(folder, every=2) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        client.score_group(group(21, 1))
        empty = group(22, 2)
        refused = Group(replace(empty.query, gold=None, audit=True), empty.rollouts)
        with pytest.raises(InputError, match="audit query without a gold answer"):
            client.score_group(refused)
        assert served.retrainer.status.number == 0


FAILURES = {
    "a training that fails": ("labels", "training needs both classes"),
    "a training that is killed": ("kill", "killed by signal 9"),
    "a training that does not start": ("command", "No such file"),
    "a memory that cannot be written to": ("finish", "the disk is on fire"),
    "a model that cannot be taken up": ("take up", "the disk is on fire"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failed_training_leaves_the_old_model(
    folder: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    what, sentence = FAILURES[kind]
    if what in ("finish", "take up"):
        request.getfixturevalue("trains_here")  # what fails comes after the child
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    replaced: dict[str, Callable[..., Any]] = {
        "kill": lambda *given, **options: [module.prepare_before(*given, **options), killed][1],
        "command": lambda *given, **options: [module.prepare_before(*given, **options), ["/nowhere"]][1],
    }
    monkeypatch.setattr(module, "prepare_before", module.prepare, raising=False)
    with serving(folder) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        before, new = served.models, group(40, 1, gold=False)
        with monkeypatch.context() as patched:
            if what in replaced:
                patched.setattr(module, "prepare", replaced[what])
            elif what == "take up":
                patched.setattr(memory_model, "load_model", fail)
            elif what == "finish":
                patched.setattr(served.memory, "record_scores", fail)
            else:
                ids = served.memory.graph.nodes("Thinking", ["id"])["id"].to_pylist()
                served.memory.label(dict.fromkeys(ids, 1.0), replace=True)
            with pytest.raises(ServiceError, match=sentence):
                client.retrain()
        assert served.models == before
        assert {reward.model for reward in client.score_group(new)} == set(before)
        assert "memstore_retrain_failed_total 1.0" in served.service.metrics.text().decode()
        assert "was not trained again, and stays" in caplog.text
        assert not (folder / "service" / module.FOLDER).exists()
        if what == "kill":
            request.getfixturevalue("trains_here")
            assert client.retrain() == served.models[0]
            assert len(served.models) == 2


def fail(*given: object, **options: object) -> None:
    raise ModelError("the disk is on fire")


@pytest.mark.usefixtures("trains_here")
def test_mode_verdict_trains_its_first_model(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the verdicts that it has bought, and not before there are enough."""
    first, budget = tmp_path / "first", VerifierBudget(calls=100)
    with (
        serving(first, every=2, mode="verdict", verifier_budget=budget) as served,
        RewardClient(served.endpoint, deadline_s=WAIT_S) as client,
    ):
        assert served.models == []
        with pytest.raises(ServiceError, match="the memory has no labels yet to train a first reward model on"):
            client.retrain()
        assert "no reward model was trained: the memory has no labels yet" in caplog.text
        client.score_groups([group(number, 1) for number in range(20, 32)])
        assert {one.model for one in client.score_group(group(40, 1, gold=False), record=False)} == {None}
        client.score_group(group(33, 2))
        served.trained()
        assert (served.retrainer.status.number, served.retrainer.status.error) == (2, None)
        assert served.models == [served.retrainer.status.model]
        rewards = client.score_group(group(41, 2, gold=False), record=False)
        assert {one.model for one in rewards} == set(served.models)


def test_services_that_cannot_train_say_so(folder: Path, tmp_path: Path) -> None:
    with Memory.open(folder, embedder=HashEmbedder()) as memory:
        with pytest.raises(InputError, match="on recorded rollouts, but it uses no reward model; leave it out"):
            serve(memory, ServeOptions(port=0, mode="budget", retrain=5))
        with pytest.raises(InputError, match="on recorded rollouts, but it records none; leave it out"):
            serve(memory, ServeOptions(port=0, record=False, retrain=5))
        with GroupScorer.open(memory, mode="budget") as scorer:
            metrics = Metrics(waiting=lambda: 0, journal=lambda: 0)
            with pytest.raises(InputError, match="uses no reward model"):
                Retrainer(memory, scorer, tmp_path, metrics).start()
            with pytest.raises(InputError, match="--retrain is 0; pass a number of steps from 1"):
                Retrainer(memory, scorer, tmp_path, metrics, settings=RetrainSettings(every=0))


def test_only_one_training_runs_at_a_time_and_none_after_the_end(folder: Path) -> None:
    with serving(folder) as served:
        served.retrainer.stop()
        with pytest.raises(RetrainingRuns):
            served.retrainer.start()
