"""Tests of docker/ that need no engine: the resolved compose file, and the image's command as a process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from memstore.locations.location import ServerLocation, resolve_location
from memstore.locations.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker" / "compose.yml"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
PASSWORDS = {"NEO4J_PASSWORD": "graph-secret", "MILVUS_PASSWORD": "vector-secret", "MINIO_PASSWORD": "object-secret"}
TOKEN = {"MEMSTORE_SERVICE_TOKEN": "service-secret"}
LONG_RUNNING = ("neo4j", "etcd", "minio", "milvus")


def config(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run `docker-compose config` with exactly this environment."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip(
            "docker-compose is not installed; on Debian: apt-get install --no-install-recommends docker-compose"
        )
    return subprocess.run(
        [program, "--file", str(COMPOSE), "config"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of the resolved compose file."""
    done = config(**PASSWORDS, **TOKEN)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return found


def test_compose_file_has_the_services(services: dict[str, Any]) -> None:
    assert set(services) == {*LONG_RUNNING, "memstore", "rewards"}


@pytest.mark.parametrize("password", PASSWORDS)
def test_compose_fails_without_a_password_and_names_it(password: str) -> None:
    for given in ({}, {password: ""}):
        done = config(**{key: value for key, value in PASSWORDS.items() if key != password} | given)
        assert done.returncode != 0
        assert password in done.stderr


def test_secrets_of_containers_come_from_the_environment(services: dict[str, Any]) -> None:
    secrets = re.compile("password|secret|auth$|token", re.IGNORECASE)
    found = {
        f"{name}.{key}": str(value)
        for name, service in services.items()
        for key, value in service["environment"].items()
        if secrets.search(key)
    }
    assert len(found) == 9
    for key, value in found.items():
        assert any(value.endswith(password) for password in (PASSWORDS | TOKEN).values()), key


def test_ports_are_bound_to_loopback(services: dict[str, Any]) -> None:
    published = {}
    for name, service in services.items():
        assert "network_mode" not in service
        for port in service.get("ports", ()):
            address, _, inside = (part for part in re.split(r":(?=\d)", port))
            assert address == "127.0.0.1", f"{name} publishes {port}"
            published.setdefault(name, set()).add(inside.removesuffix("/tcp"))
    assert published == {"neo4j": {"7687", "7474"}, "milvus": {"19530"}, "rewards": {"8731"}}


def test_tags_are_pinned(services: dict[str, Any]) -> None:
    for service in services.values():
        _, _, tag = service["image"].rpartition(":")
        assert re.search(r"\d+\.\d+\.\d+|\d{4}-\d\d-\d\d", tag), service["image"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert services["memstore"]["image"] == services["rewards"]["image"] == f"memstore:{project['version']}"
    assert re.search(r"^FROM python:3\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_server_has_a_health_check_and_a_volume(services: dict[str, Any], name: str) -> None:
    assert services[name]["healthcheck"]["test"]
    assert all(re.match(r"[a-z0-9-]+-(data|logs):/", str(volume)) for volume in services[name]["volumes"])
    assert services[name]["volumes"]


def test_services_wait_until_their_servers_are_healthy(services: dict[str, Any]) -> None:
    needs = {name: set(service.get("depends_on", {})) for name, service in services.items()}
    assert needs["milvus"] == {"etcd", "minio"}
    assert needs["memstore"] == needs["rewards"] == {"neo4j", "milvus"}
    for service in services.values():
        for wanted in service.get("depends_on", {}).values():
            assert wanted["condition"] == "service_healthy"


def test_environment_of_the_command_locates_the_servers(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in services["memstore"]["environment"].items():
        monkeypatch.setenv(key, value)
    found = resolve_location(None, Settings())
    assert isinstance(found, ServerLocation)
    assert (found.neo4j_uri, found.milvus_uri) == ("bolt://neo4j:7687", "http://milvus:19530")
    assert found.neo4j_password.get_secret_value() == PASSWORDS["NEO4J_PASSWORD"]
    assert found.milvus_token is not None
    assert found.milvus_token.get_secret_value() == f"root:{PASSWORDS['MILVUS_PASSWORD']}"
    assert found.folder.is_relative_to("/memory")


def entry(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the image's entry point as a process."""
    found = re.search(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found
    (program,) = json.loads(found[1])
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": os.environ["HOME"]}
    return subprocess.run(
        [program, *words], env=path | environment, capture_output=True, text=True, timeout=280, check=False
    )


def test_default_command_of_the_image_prints_help() -> None:
    found = re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found
    done = entry(*json.loads(found[1]))
    assert done.returncode == 0
    assert "ingest" in done.stdout


def test_memory_of_the_image_is_in_its_volume() -> None:
    memory = re.search(r"^ENV MEMSTORE_MEMORY=(\S+)$", DOCKERFILE, re.MULTILINE)
    volume = re.search(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    assert memory
    assert volume
    assert Path(memory[1]).is_relative_to(volume[1])
    done = entry("stats", MEMSTORE_MEMORY=memory[1])
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: there is no memory at {memory[1]}")


def test_reward_service_without_a_token_refuses_a_public_address(services: dict[str, Any], tmp_path: Path) -> None:
    served = services["rewards"]
    command = served["command"] if isinstance(served["command"], list) else served["command"].split()
    memory = str(tmp_path / "memory")
    (tmp_path / "rollouts.jsonl").write_text('{"query": "1 + 1?", "answer": "2"}\n')
    assert entry("ingest", str(tmp_path / "rollouts.jsonl"), MEMSTORE_MEMORY=memory).returncode == 0
    done = entry(*command, MEMSTORE_MEMORY=memory, MEMSTORE_SERVICE_TOKEN="")
    assert done.returncode == 1
    assert "needs a token" in done.stderr


def test_command_names_the_unreachable_server(services: dict[str, Any]) -> None:
    given = services["memstore"]["environment"] | {"MEMSTORE_NEO4J_URI": "bolt://127.0.0.1:1"}
    done = entry("stats", **given)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no Neo4j server responds at bolt://127.0.0.1:1" in done.stderr
    assert PASSWORDS["NEO4J_PASSWORD"] not in done.stderr
