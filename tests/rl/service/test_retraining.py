"""Training in place: the service goes on scoring, changes to the new model as a whole, and survives every failure."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from memstore.errors import InputError, ModelError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.models.checkpoint import load_model
from memstore_gnn.models.registry import list_models
from memstore_gnn.verbs import train_memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.service import retraining as module
from memstore_rl.service.app import make_app
from memstore_rl.service.client import RewardClient, ServiceError
from memstore_rl.service.journal import Journal
from memstore_rl.service.metrics import Metrics
from memstore_rl.service.protocol import server_config
from memstore_rl.service.recorder import Recorder, RecorderSchedule
from memstore_rl.service.retraining import Retrainer, RetrainingRuns, RetrainSettings
from memstore_rl.service.serve import ServeOptions, serve
from memstore_rl.service.service import RewardService
from memstore_rl.service.texts import TextVectors

WAIT_S = 200


def group(number: int, step: int, *, gold: bool = True, run: str = "grpo") -> Group:
    """Four attempts at a sum, the first of them right."""
    query = RewardQuery(f"{number} + 7?", dataset="sums", domain="math", gold=str(number + 7) if gold else None)
    answers = [number + 7, number + 8, number + 8 + number % 2, number + 9]
    rollouts = [
        Rollout(thinking=f"try {n} of {step}: {answer}", answer=str(answer), policy="p", run=run, step=step)
        for n, answer in enumerate(answers)
    ]
    return Group(query, rollouts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed memory of twelve labelled sums with a model."""
    rows = [
        {
            "query": f"{number} + 7?",
            "dataset": "sums",
            "domain": "math",
            "policy": "p",
            "run": "before",
            "thinking": f"try {sample}: {number + 7 + sample % 2}",
            "answer": str(number + 7 + sample % 2),
            "sample_index": sample,
            "reward": float(not sample % 2),
        }
        for number in range(12)
        for sample in range(4)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        train_memory(memory, epochs=2, device="cpu")
    return tmp_path / "memory"


class Served:
    """A service in this process."""

    def __init__(self, memory: Memory, endpoint: str, retrainer: Retrainer, service: RewardService) -> None:
        self.memory, self.endpoint, self.retrainer, self.service = memory, endpoint, retrainer, service

    @property
    def models(self) -> list[str]:
        """Ids of the memory's models, newest first."""
        return [entry.model for entry in list_models(self.memory)]

    def trained(self) -> None:
        """Wait for the training that runs, if one does."""
        if self.retrainer._thread is not None:
            self.retrainer._thread.join(WAIT_S)


@contextlib.contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Served]:
    with contextlib.ExitStack() as held:
        memory = held.enter_context(Memory.open(folder, embedder=HashEmbedder()))
        texts = TextVectors(memory.embedder, memory.cache)
        scorer = held.enter_context(GroupScorer.open(memory, device="cpu", embed=texts.embed))
        journal = held.enter_context(contextlib.closing(Journal(folder / "service" / "journal.sqlite")))
        service = RewardService(scorer, journal)
        recorder = Recorder(memory, journal, flush=texts.flush, schedule=RecorderSchedule(interval_s=0.05))
        recorder.start()
        held.callback(recorder.stop, WAIT_S)
        retrainer = Retrainer(
            memory, scorer, folder / "service", service.metrics, journal=journal, recorder=recorder,
            settings=RetrainSettings(device="cpu", **settings),
        )  # fmt: skip
        held.callback(retrainer.stop)
        service.on_groups = retrainer.observe
        app = make_app(
            service,
            info=lambda: {"retraining": retrainer.status.as_json()},
            retrain=lambda: retrainer.start().as_json(),
        )
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        server = uvicorn.Server(server_config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        held.callback(thread.join, WAIT_S)
        held.callback(setattr, server, "should_exit", True)
        yield Served(memory, f"http://127.0.0.1:{listener.getsockname()[1]}", retrainer, service)


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


def test_new_verdicts_count_with_the_new_model(folder: Path) -> None:
    asked = group(21, 2, gold=False)
    with serving(folder) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        assert {reward.source for reward in client.score_group(asked, record=False)} == {"predicted"}
        client.score_group(group(21, 1))
        client.retrain()
        rewards = client.score_group(asked, record=False)
        assert [(reward.source, reward.value) for reward in rewards[:2]] == [("remembered", 1.0), ("remembered", 0.0)]


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


def test_scoring_goes_on_with_one_model_at_a_time(folder: Path) -> None:
    groups, stop = [group(number, 1, gold=False) for number in range(60, 64)], threading.Event()

    def ask(endpoint: str) -> list[tuple[float, str]]:
        seen = []
        with RewardClient(endpoint, deadline_s=WAIT_S) as client:
            while not stop.is_set():
                for rewards in client.score_groups(groups, record=False):
                    assert len({reward.model for reward in rewards}) == 1
                    seen.append((rewards[0].value, rewards[0].model))
        return seen

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
            with pytest.raises(ServiceError, match="is being trained already"):
                client.retrain()
            request = urllib.request.Request(f"{served.endpoint}/v1/retrain", method="POST")
            with pytest.raises(urllib.error.HTTPError, match="409"):
                urllib.request.urlopen(request)
            go_on.set()
            assert first.result(WAIT_S) == served.models[0]
        assert len(served.models) == 1  # nothing was new: it is the same model again


FAILURES = {
    "a training that fails": ("labels", "training needs both classes"),
    "a training that is killed": ("kill", "killed by signal 9"),
    "a training that does not start": ("command", "No such file"),
    "a memory that cannot be written to": ("finish", "the disk is on fire"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failed_training_leaves_the_old_model(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    what, sentence = FAILURES[kind]
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
            assert client.retrain() == served.models[0]
            assert len(served.models) == 2


def fail(*given: object, **options: object) -> None:
    raise ModelError("the disk is on fire")


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


PROGRAM = """
import sys
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.service import retraining
from memstore_rl.service.logs import log_to_stderr
from memstore_rl.service.serve import ServeOptions, serve
log_to_stderr()
prepare = retraining.prepare
def slow(*given, **options):  # a child that says that it runs, and then takes for ever
    prepare(*given, **options)
    return [sys.executable, "-c",
        "import os, sys, time; from memstore.runtime.processes import die_with_parent; die_with_parent();"
        "print(os.getpid(), file=open(sys.argv[1], 'w')); time.sleep(10_000)", sys.argv[2]]
retraining.prepare = slow
with Memory.open(sys.argv[1], embedder=HashEmbedder()) as memory:
    serve(memory, ServeOptions(port=0, device="cpu"), on_ready=lambda endpoint: print(endpoint, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_end_of_the_service_during_a_training_leaves_nothing(folder: Path, tmp_path: Path, number: int) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", PROGRAM, str(folder), str(fifo)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    endpoint = process.stdout.readline().strip()
    assert endpoint, process.communicate()[1]
    with RewardClient(endpoint, deadline_s=WAIT_S) as client:
        client.score_group(group(30, 1))
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/v1/retrain", method="POST"))
        child = os.pidfd_open(int(fifo.read_text()))  # the child runs
        assert client.info()["retraining"]["running"]
    process.send_signal(number)
    _, log = process.communicate(timeout=WAIT_S)
    assert signal_when_ended(child)
    if number == signal.SIGTERM:
        assert process.returncode == 0
        assert [line for line in log.splitlines() if json.loads(line)["level"] != "info"] == []
    with serving(folder) as served, RewardClient(served.endpoint, deadline_s=WAIT_S) as client:
        assert len(served.models) == 1
        assert sorted(path.name for path in served.memory.models_folder.iterdir()) == served.models
        assert not (folder / "service" / module.FOLDER).exists()
        if number == signal.SIGKILL:
            assert client.retrain() == served.models[0]
            assert len(served.models) == 2


def signal_when_ended(handle: int) -> bool:
    """Whether the process of a pidfd ends in time."""
    import select

    ended = bool(select.select([handle], [], [], WAIT_S)[0])
    os.close(handle)
    return ended


def test_files_of_a_killed_training_are_deleted(folder: Path) -> None:
    left = folder / "service" / module.FOLDER / "snapshot"
    left.mkdir(parents=True)
    with serving(folder):
        assert not left.parent.exists()
    shutil.rmtree(folder)


def test_only_one_training_runs_at_a_time_and_none_after_the_end(folder: Path) -> None:
    with serving(folder) as served:
        served.retrainer.stop()
        with pytest.raises(RetrainingRuns):
            served.retrainer.start()
