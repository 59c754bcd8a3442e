"""memstore-client is small, and its modules run where nothing else of memstore is installed.

pip builds and installs the wheel, without a network. Its dependencies are links to those of the environment of the
tests, in a folder of their own, so that nothing else can be imported.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LIMIT_MB = 60
NOT_THERE = ("torch", "numpy", "pandas", "pyarrow", "faiss", "ladybug", "neo4j", "pymilvus", "sentence_transformers")
TRAINERS = ("verl", "trl", "ray", "omegaconf", "transfer_queue")
"""Packages of trainers, which a module may import when it is loaded."""

IMPORT_ALL = """
import importlib, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
        found[name] = None
    except ModuleNotFoundError as error:
        found[name] = error.name
print(json.dumps(found))
"""
SCORE = """
from memstore_rl import group_reward
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.trl import reward_function
from memstore_rl.service.client import RewardClient
with NotingService() as service:
    scored = group_reward(["what is 2 + 3 ?"] * 2, ["\\\\boxed{5}", "6"], golds=["5", "5"], endpoint=service.address)
    assert scored.values == [1.0, 0.0], scored
    with RewardClient(service.address) as client:
        reward_function(client, num_generations=4)
try:
    from memstore import Memory
except ImportError as error:
    print(error)
"""


def read_project(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def pip(verb: str, *arguments: str) -> None:
    common = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    command = [sys.executable, "-m", "pip", verb, *common, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "-w", str(folder), str(ROOT / "rl"))
    [found] = folder.glob("memstore_client-*.whl")
    return found


def closure(requirements: list[str]) -> set[str]:
    """The installed distributions that these requirements need."""
    found: set[str] = set()
    left = list(requirements)
    while left:
        wanted = Requirement(left.pop())
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name not in found:
            found.add(name)
            left += distribution(name).requires or []
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and links to what it needs, as an installation has them."""
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--target", str(folder), str(wheel))
    for name in closure(read_project(ROOT / "rl" / "pyproject.toml")["project"]["dependencies"]):
        for file in distribution(name).files or []:
            top = file.parts[0]
            if top != ".." and not (folder / top).exists():
                (folder / top).symlink_to(distribution(name).locate_file(top))
    return folder


def run(site: Path, program: str, *arguments: str) -> str:
    """Run a program that sees this folder and the standard library only."""
    environment = {"PYTHONPATH": str(site), "PATH": os.defpath}
    command = [sys.executable, "-P", "-S", "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules(wheel: Path) -> list[str]:
    files = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")]
    names = (name.removesuffix(".py").replace("/", ".") for name in files)
    return sorted(name.removesuffix(".__init__") for name in names)


@pytest.mark.slow
def test_every_module_of_the_wheel_can_be_imported(wheel: Path, site: Path) -> None:
    found = json.loads(run(site, IMPORT_ALL, json.dumps(modules(wheel))))
    missing = {name: lacks for name, lacks in found.items() if lacks and lacks.split(".")[0] not in TRAINERS}
    assert missing == {}
    imported = {name for name, lacks in found.items() if lacks is None}
    assert {"memstore_rl.service.client", "memstore_rl.trainers.trl", "memstore_rl.trainers.verl.batch"} <= imported


@pytest.mark.slow
def test_the_client_scores_without_the_rest(site: Path) -> None:
    message = run(site, SCORE)
    assert "memstore-client has no Memory" in message
    there = json.loads(run(site, IMPORT_ALL, json.dumps(NOT_THERE)))
    assert there == {name: name for name in NOT_THERE}


@pytest.mark.slow
def test_the_client_is_small(site: Path) -> None:
    size = sum(file.stat().st_size for top in site.iterdir() for file in _files(top.resolve()))
    assert size / 10**6 < LIMIT_MB


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def test_one_version_and_no_dependency_of_its_own() -> None:
    client, whole = read_project(ROOT / "rl" / "pyproject.toml"), read_project(ROOT / "pyproject.toml")["project"]
    assert re.search(client["tool"]["hatch"]["version"]["pattern"], (ROOT / "pyproject.toml").read_text(), re.M)
    known = {*whole["dependencies"], *whole["optional-dependencies"]["client"]}
    assert set(client["project"]["dependencies"]) <= known
    for name in ("requires-python", "license", "classifiers"):
        assert client["project"][name] == whole[name]


def test_classifiers_and_linter_name_the_supported_versions() -> None:
    whole = read_project(ROOT / "pyproject.toml")
    versions = [line.rpartition(" ")[2] for line in whole["project"]["classifiers"] if ":: Python :: 3." in line]
    assert versions == ["3.11", "3.12", "3.13"]
    assert whole["project"]["requires-python"] == f">={versions[0]}"
    assert whole["tool"]["ruff"]["target-version"] == "py311"
    assert whole["tool"]["mypy"]["python_version"] == versions[0]
