"""The table of docs/trainers/index.md has every hook, with the version that it is tested against, and its page."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from memstore_rl.trainers.conformance.drivers import DRIVERS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "trainers"
TABLE = (PAGES / "index.md").read_text(encoding="utf-8").partition("| trainer |")[2].partition("\n\n")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines()[2:]]
ROW_OF = {"verl_batch": "verl 0.5", "trl": "TRL", "tinker_cookbook": "tinker-cookbook", "nemo_rl": "NeMo-RL"}
"""How the row of a driver begins, where this is not the driver's name; miles shares slime's, generic is any other."""
VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?|[0-9a-f]{8}")


@pytest.mark.parametrize("driver", [name for name in DRIVERS if name != "generic"])
def test_a_hook_has_a_row_with_the_version_it_is_tested_against(driver: str) -> None:
    start = ROW_OF.get(driver, driver).lower()
    (row,) = [row for row in ROWS if row[0].lower().startswith(start) or f" {start} " in row[0].lower()][:1]
    module = importlib.import_module(f"memstore_rl.trainers.conformance.drivers.{driver}")
    recorded = getattr(module, "RECORDED", "") or str(module.Driver.against)
    assert set(VERSION.findall(row[0])) & set(VERSION.findall(recorded)), (row[0], recorded)


def test_versions_that_the_tests_install_are_those_of_the_table() -> None:
    pins = (ROOT / "constraints.txt").read_text() + (ROOT / "tests/rl/trainers/hooks/requirements.txt").read_text()
    pinned = {"verl 0.9": "verl", "TRL": "trl", "OpenRLHF": "openrlhf", "ART": "openpipe-art"}
    for start, package in pinned.items():
        (row,) = [row for row in ROWS if row[0].startswith(start)]
        (version,) = re.findall(rf"^{package}==(\S+)$", pins, re.MULTILINE)
        (named,) = VERSION.findall(row[0])
        assert f"{version}.".startswith(f"{named}.")


def test_every_page_has_a_row() -> None:
    linked = {name for row in ROWS for name in re.findall(r"\((\w+\.md)\)", row[-1])}
    assert linked == {page.name for page in PAGES.glob("*.md")} - {"index.md"}
    assert all(len(row) == 7 and all(row) for row in ROWS)
