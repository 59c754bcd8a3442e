"""The end of a service during a training: nothing is left of it, and the next service goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from memstore_rl.service import retraining as module
from memstore_rl.service.client import RewardClient
from tests.rl.service.training_services import WAIT_S, group, serving

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
        "import os, signal, sys; from memstore.runtime.processes import die_with_parent; die_with_parent();"
        "print(os.getpid(), file=open(sys.argv[1], 'w')); signal.pause()", sys.argv[2]]
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
