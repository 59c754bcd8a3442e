"""The server process: kill -9 under load, graceful shutdown, one service per memory, addresses and tokens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.testing.servers.ports import free_port
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.service.client import RewardClient, ServiceError
from memstore_rl.service.serve import check_address, listen

# Ground truth only and hashed vectors, so that the process starts within seconds.
PROGRAM = """
import sys
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.service.logs import log_to_stderr
from memstore_rl.service.recorder import RecorderSchedule
from memstore_rl.service.serve import ServeOptions, serve
log_to_stderr()
with Memory.open(sys.argv[1], create=True, embedder=HashEmbedder()) as memory:
    options = ServeOptions(port=int(sys.argv[2]), mode="budget", schedule=RecorderSchedule(interval_s=0.2))
    serve(memory, options, on_ready=lambda endpoint: print(endpoint, flush=True))
"""


class Process:
    """A service that can be killed and restarted at its address."""

    def __init__(self, memory: Path, port: int) -> None:
        self.command = [sys.executable, "-c", PROGRAM, str(memory), str(port)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.endpoint = self.process.stdout.readline().strip()
        assert self.endpoint, self.process.communicate()[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=200)
        return self.process.returncode, log


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "memory", free_port())
    yield process
    if process.process.poll() is None:
        process.kill()


def group(number: int) -> Group:
    query = RewardQuery(f"what is {number} + 1?", dataset="sums", domain="math", gold=str(number + 1))
    rollouts = [Rollout(response=f"#### {number + offset}", run="load", step=number, policy="p") for offset in range(4)]
    return Group(query, rollouts)


def test_kill_9_under_load_loses_no_acknowledged_rollout(process: Process, tmp_path: Path) -> None:
    acknowledged: list[int] = []
    wrong: list[object] = []
    numbers, stop = iter(range(1_000_000)), threading.Event()

    def ask() -> None:
        with RewardClient(process.endpoint, deadline_s=200) as client:
            while not stop.is_set():
                number = next(numbers)
                try:
                    values = [reward.value for reward in client.score_group(group(number))]
                except Exception as error:
                    wrong.append(error)
                    return
                if values != [0.0, 1.0, 0.0, 0.0]:
                    wrong.append(values)
                acknowledged.append(number)

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    for more in (7, 11, 4):
        wait_for(acknowledged, len(acknowledged) + more, wrong)
        process.kill()
        process.start()
    wait_for(acknowledged, len(acknowledged) + 5, wrong)
    stop.set()
    for client in clients:
        client.join(200)
    code, _ = process.stop()
    assert code == 0
    assert wrong == []
    assert len(acknowledged) >= 27
    with Memory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        found = list(memory.cypher("MATCH (t:Thinking) RETURN t.step, t.sample_index, t.reward").rows)
    expected = {(number, place, float(place == 1)) for number in acknowledged for place in range(4)}
    assert expected <= set(found)
    assert len(found) == len(set(found))


def test_sigterm_with_64_clients_loses_no_acknowledged_rollout(process: Process, tmp_path: Path) -> None:
    acknowledged: list[int] = []
    numbers = iter(range(1_000_000))

    def ask() -> None:
        with RewardClient(process.endpoint, deadline_s=5) as client:
            while True:
                number = next(numbers)
                try:
                    client.score_group(group(number))
                except ServiceError:  # the service has stopped
                    return
                acknowledged.append(number)

    clients = [threading.Thread(target=ask) for _ in range(64)]
    for client in clients:
        client.start()
    wait_for(acknowledged, 100, [])
    code, log = process.stop()
    for client in clients:
        client.join(200)
    assert code == 0
    assert [line for line in log.splitlines() if "traceback" in json.loads(line)] == []
    with Memory.open(tmp_path / "memory", embedder=HashEmbedder()) as memory:
        found = set(memory.cypher("MATCH (t:Thinking) RETURN t.step, t.sample_index").rows)
    assert {(number, place) for number in acknowledged for place in range(4)} <= found


def wait_for(acknowledged: list[int], count: int, wrong: list[object]) -> None:
    """Wait until `count` groups are acknowledged or a client has failed."""
    until = time.monotonic() + 200
    while len(acknowledged) < count and not wrong:
        assert time.monotonic() < until, "the clients get no responses"
        time.sleep(0.01)


def test_stop_empties_the_journal_without_a_traceback(process: Process) -> None:
    with RewardClient(process.endpoint) as client:
        client.score_groups([group(number) for number in range(20)])
    code, log = process.stop()
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert lines[-1]["left_in_journal"] == 0
    assert all("traceback" not in line for line in lines)


def test_second_service_on_one_memory_is_rejected(process: Process, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "memory"), "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert second.returncode != 0
    last = second.stderr.strip().splitlines()[-1]
    assert f"process {process.process.pid}" in last
    assert "memstore serve" in last


def test_port_in_use_is_an_error(process: Process, tmp_path: Path) -> None:
    port = process.endpoint.rsplit(":", 1)[1]
    second = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "other"), port], capture_output=True, text=True, timeout=200
    )
    assert second.returncode != 0
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr.strip().splitlines()[-1]


def test_service_listens_on_loopback_only(process: Process) -> None:
    inodes = set()
    for handle in Path(f"/proc/{process.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            target = os.readlink(handle)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process.process.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.append(fields[1].split(":")[0])
    assert set(listening) == {"0100007F"}


def test_listener_enables_tcp_nodelay() -> None:
    """Without TCP_NODELAY a response waits 40 ms for the client's acknowledgement."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "somewhere.example"])
def test_non_loopback_address_needs_a_token(host: str) -> None:
    with pytest.raises(InputError, match="MEMSTORE_SERVICE_TOKEN"):
        check_address(host, None)
    check_address(host, SecretStr("x"))
    with pytest.raises(InputError, match="empty"):
        check_address(host, SecretStr(" "))
    with pytest.raises(InputError, match="not ASCII and cannot be sent in a header") as error:
        check_address(host, SecretStr("schlüssel"))
    assert "schlüssel" not in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    check_address(host, None)
