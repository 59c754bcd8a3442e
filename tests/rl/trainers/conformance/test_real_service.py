"""The check and the documented curl command against the reward service itself, over a memory with a model."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr

from memstore.errors import InputError
from memstore.memory import Memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.service.app import make_app
from memstore_rl.service.client import ServiceError
from memstore_rl.service.journal import Journal
from memstore_rl.service.service import RewardService
from memstore_rl.trainers.conformance.checks import check_hook
from memstore_rl.trainers.conformance.drivers import driver_of

PAGE = Path(__file__).resolve().parents[4] / "docs" / "serve.md"
TOKEN = "the-token"


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture(scope="module")
def address(trained_memory: Memory, journal: Journal) -> Iterator[str]:
    """A service that records into a journal which nothing writes to the memory."""
    with GroupScorer.open(trained_memory, device="cpu") as scorer, socket.create_server(("127.0.0.1", 0)) as listener:
        app = make_app(RewardService(scorer, journal), token=SecretStr(TOKEN), info=lambda: {"shaping": "probability"})
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(200)


def test_hook_conforms_at_the_service_and_nothing_is_recorded(address: str, journal: Journal) -> None:
    findings = check_hook(driver_of("generic"), address, TOKEN)
    assert [finding for finding in findings if not finding.ok] == []
    assert len(journal) == 0


def test_service_that_rejects_the_check_is_an_error(address: str) -> None:
    with pytest.raises(ServiceError, match="the token is missing or wrong"):
        check_hook(driver_of("generic"), address, "another-token")
    with pytest.raises(InputError, match="is not an address"):
        check_hook(driver_of("generic"), "nowhere")


def test_documented_curl_command_returns_rewards(address: str) -> None:
    [command] = re.findall(r"^```sh\n(curl .*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    script = command.replace("http://127.0.0.1:8731", address).replace('"$MEMSTORE_SERVICE_TOKEN"', TOKEN)
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "MEMSTORE_SERVICE_TOKEN": TOKEN}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    answer = json.loads(done.stdout)
    [rewards] = answer["rewards"]
    assert [reward["group_size"] for reward in rewards] == [2, 2]
    assert all(0 <= reward["value"] <= 1 for reward in rewards)
    assert answer["recorded"] == 0
