"""Trains the reward model again while the service goes on scoring, and takes the new model up.

    trigger    the journal holds what comes from now on
    owner      writes what came before to the memory, takes a snapshot of it, and ends the hold
    child      trains on the snapshot, in a process of its own at a low priority
    owner      the scorer reads the model and the memory; the memory gets the model, and the scorer changes to it

What the model is trained on is therefore what was acknowledged before the trigger. A training is triggered by a call of
`start` or, every so many steps of a run, by the first valid request of the step, before any rollout of this step.

Scoring uses the old model until the change, which is one assignment. If anything fails, the old model stays, here and
in the memory. Files of an unfinished training are in one folder, which the next one deletes. In mode `verdict`, the
model may be the memory's first; if the labels are too few for it, the service goes on without.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from memstore.errors import InputError, MemstoreError, ModelError
from memstore.memory import Memory
from memstore_gnn.models.reward_model import ModelCard
from memstore_gnn.verbs.train_apart import finish, prepare, trained_model
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.service.journal import Journal
from memstore_rl.service.metrics import Metrics
from memstore_rl.service.recorder import Recorder
from memstore_rl.service.wire import GroupIn

logger = logging.getLogger(__name__)

FOLDER, LOG = "retraining", "log.txt"
MAX_ENDED = 16
"""Trainings that have ended whose status is kept."""
_ONE_CORE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class RetrainingRuns(MemstoreError):
    """The reward model is being trained already."""


class _Stopped(Exception):
    """The service stops, and with it the training."""


@dataclass(frozen=True)
class RetrainSettings:
    """When and on what the service trains its reward model again."""

    every: int | None = None
    """Steps of a run between two trainings; None: only when called."""
    last_steps: int | None = None
    """Train on the rollouts of each run's last so many steps; None: on all of the memory."""
    device: str | None = None
    """`cpu` or `cuda`; None takes a GPU if there is one."""

    def check(self) -> None:
        """Check the settings.

        Raises:
            InputError: a number of steps is not positive.
        """
        for name, steps in (("retrain", self.every), ("retrain-last-steps", self.last_steps)):
            if steps is not None and steps < 1:
                raise InputError(f"--{name} is {steps}; pass a number of steps from 1")


@dataclass(frozen=True)
class RetrainStatus:
    """A training in place."""

    id: str | None = None
    """Identifies it; None if there has been none."""
    number: int = 0
    """How many have begun since the service started."""
    running: bool = False
    step: int | None = None
    """Step of the policy that triggered it; None if it was called."""
    model: str | None = None
    """Id of the new model; None while it runs or if it failed."""
    error: str | None = None
    """Why it failed, in one sentence."""

    def as_json(self) -> dict[str, Any]:
        """The status as a JSON object."""
        return asdict(self)


class Retrainer:
    """Trains the reward model of a service; see the module's docstring. Thread-safe."""

    def __init__(
        self,
        memory: Memory,
        scorer: GroupScorer,
        folder: Path,
        metrics: Metrics,
        *,
        journal: Journal | None = None,
        recorder: Recorder | None = None,
        settings: RetrainSettings | None = None,
    ) -> None:
        """Create a retrainer; nothing runs before the first trigger.

        Args:
            folder: where the files of a training go, in a folder of their own.
            journal, recorder: what the service records with; None if it does not record.

        Raises:
            InputError: the settings are invalid, or ask for trainings where there is no model or nothing is recorded.
        """
        self._settings = settings or RetrainSettings()
        self._settings.check()
        if self._settings.every is not None and (not scorer.trainable or recorder is None):
            why = "it records none" if recorder is None else "it uses no reward model"
            raise InputError(f"--retrain trains the service's model on recorded rollouts, but {why}; leave it out")
        self._memory, self._scorer, self._metrics = memory, scorer, metrics
        self._journal, self._recorder = journal, recorder
        self._folder = folder / FOLDER
        self._steps: dict[str | None, int] = {}
        """Multiple of `every` that each run has reached."""
        self._status = RetrainStatus()
        self._ended: deque[RetrainStatus] = deque(maxlen=MAX_ENDED)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def status(self) -> RetrainStatus:
        """The latest training."""
        return self._status

    def as_info(self) -> dict[str, Any]:
        """The latest training, and those that have ended, latest first, as `/v1/info` gives them."""
        ended = [status.as_json() for status in reversed(tuple(self._ended))]
        return {"retraining": self._status.as_json(), "retrainings": ended}

    def observe(self, groups: Iterable[GroupIn]) -> None:
        """Start a training if these groups, which are about to be scored, reach a new multiple of `every` steps.

        A training that is due while another runs begins with a later step. Groups that are not recorded do not count.
        """
        if self._settings.every is None:
            return
        for group in groups:
            for rollout in group.rollouts if group.record else ():
                if rollout.step is not None:
                    self._reach(rollout.run, rollout.step)

    def _reach(self, run: str | None, step: int) -> None:
        assert self._settings.every is not None
        multiple = step // self._settings.every
        if multiple > self._steps.setdefault(run, multiple):
            try:
                self.start(step)
            except RetrainingRuns:
                return
            self._steps[run] = multiple

    def start(self, step: int | None = None) -> RetrainStatus:
        """Begin a training on what has been acknowledged so far; return its status.

        Args:
            step: step of the policy that triggers it.

        Raises:
            RetrainingRuns: one runs already, or the service stops.
            InputError: the service uses no reward model.
        """
        if not self._scorer.trainable:
            raise InputError("this service uses no reward model; start it with --mode memory or verdict to train one")
        with self._lock:
            if self._status.running or self._stopping.is_set():
                raise RetrainingRuns("the reward model is being trained already; ask again when GET /v1/info says so")
            # Not a daemon: it may be writing to the memory when the process ends.
            thread = threading.Thread(target=self._run, name="memstore-retrain")
            before, number = self._status, self._status.number + 1
            self._status = RetrainStatus(uuid.uuid4().hex, number, running=True, step=step)
            if self._journal is not None:
                self._journal.hold()
            try:
                thread.start()
            except RuntimeError:  # the machine has no thread left
                self._status = before
                if self._journal is not None:
                    self._journal.release()
                raise
            self._thread = thread
            return self._status

    def stop(self) -> None:
        """End a running training, whose model is lost, and begin no other."""
        with self._lock:
            self._stopping.set()
            child, thread = self._child, self._thread
        if child is not None:
            child.kill()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        begun, running, first = time.monotonic(), replace(self._status, running=False), self._scorer.model is None
        self._metrics.retraining.set(1)
        try:
            model = self._train()
            ended = replace(running, model=model)
            self._metrics.retrained.inc()
            seconds = round(time.monotonic() - begun, 1)
            what = "the first reward model was trained" if first else "the reward model was trained again"
            logger.info(what, extra={"model": model, "seconds": seconds, "step": running.step})
        except _Stopped:
            ended = replace(running, error="the service was stopped during the training")
        except Exception as error:
            # Also catches bugs: the service goes on with the model that it has.
            ended = replace(running, error=str(error) or type(error).__name__)
            self._metrics.retrain_failures.inc()
            known = isinstance(error, MemstoreError)
            what = "no reward model was trained" if first else "the reward model was not trained again, and stays"
            logger.error("%s: %s", what, error, exc_info=not known)
        self._metrics.retraining.set(0)
        self._ended.append(ended)
        self._status = ended

    def _train(self) -> str:
        """Train, and change to the new model; return its id."""
        present = self._scorer.model
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._work(self._prepared(None if present is None else present.model.card))
            with self._scorer.taking_up(trained_model(self._folder)):
                summary = finish(self._memory, self._folder)
            watch_votes(self._scorer, self._metrics)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return summary.model

    def _prepared(self, card: ModelCard | None) -> list[str]:
        """Write a snapshot of what was acknowledged before the trigger; return the command that trains on it."""
        chosen = self._settings
        try:
            with self._recorder.caught_up() if self._recorder is not None else nullcontext():
                return prepare(self._memory, self._folder, card, last_steps=chosen.last_steps, device=chosen.device)
        finally:
            if self._journal is not None:
                self._journal.release()

    def _work(self, command: list[str]) -> None:
        """Run the child to its end.

        Raises:
            ModelError: it failed.
            _Stopped: the service stops.
        """
        path = self._folder / LOG
        environment = {**os.environ, **dict.fromkeys(_ONE_CORE, "1")}
        with path.open("wb") as log, self._lock:
            if self._stopping.is_set():
                raise _Stopped
            # A session of its own keeps Ctrl-C away from it.
            self._child = child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        code = child.wait()
        if self._stopping.is_set():
            raise _Stopped
        if code < 0:
            raise ModelError(f"the training was killed by signal {-code}; a machine without free memory does that")
        if code:
            last = path.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            raise ModelError(last or f"the training ended with code {code}")


def watch_votes(scorer: GroupScorer, metrics: Metrics) -> None:
    """Let the metrics show whether the groups of the scorer's model vote differently from its training groups."""
    if scorer.model is not None and scorer.model.vote_drift is not None:
        scorer.model.vote_drift.on_window = metrics.on_votes
