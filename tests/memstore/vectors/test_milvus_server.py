"""The server that tests run against: it is real, it is ours alone, and it comes back after a kill."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from memstore.testing.processes import wait_for_exit
from memstore.testing.servers.milvus import MilvusServer


@pytest.fixture(scope="module")
def server(milvus_can_run: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A server of this file's own, since it is killed here."""
    with MilvusServer(tmp_path_factory.mktemp("own")) as server:
        yield server


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def listening(pid: int) -> set[str]:
    """Ports that are listened on where this process lives."""
    rows = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()
    ]
    return {fields[1].rpartition(":")[2] for fields in rows if fields[3] == "0A"}


def test_it_lives_where_there_is_no_network_but_loopback(server: MilvusServer) -> None:
    assert server.pid is not None
    (milvus,) = children(server.pid)
    interfaces = Path(f"/proc/{milvus}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    assert f"{19530:04X}" in listening(milvus)
    assert os.readlink(f"/proc/{milvus}/ns/net") != os.readlink("/proc/self/ns/net")


def test_it_comes_back_on_its_data_and_port_after_a_kill(server: MilvusServer) -> None:
    before = server.uri
    client = MilvusClient(server.uri)
    client.create_collection("kept", dimension=4)
    client.close()
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
    server.start()
    assert server.uri == before
    client = MilvusClient(server.uri)
    assert client.list_collections() == ["kept"]
    client.close()


def test_it_dies_with_the_process_that_started_it(tmp_path: Path, server: MilvusServer) -> None:
    del server  # this machine can run one
    code = (
        "import os, sys; from pathlib import Path; from memstore.testing.servers.milvus import MilvusServer\n"
        "server = MilvusServer(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); os._exit(1)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False
    )
    relay = int(started.stdout)
    wait_for_exit(relay)
