"""Size of what pip installs for each use of memstore, as a table.

    python benchmarks/install_sizes.py

A row is a requirement: the client, the whole of memstore, and each extra with what it adds. Packages are followed
through the metadata of this environment and their files are counted, so nothing is downloaded. The figures are those of
the versions and builds that are installed here. An extra of which a package is missing here has no figure.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CLIENT = ROOT / "rl" / "pyproject.toml"
OWN = ("memstore", "gnn/memstore_gnn", "rl/memstore_rl", "cli/memstore_cli", "schema/memstore_schema")
NOT_SHOWN = frozenset(["dev"])
MB = 10**6


class Size(NamedTuple):
    """What a requirement installs."""

    install: str
    packages: int
    mb: float | None
    """None: a package is not installed here."""
    largest: list[str]
    """The three largest packages with their MB; without a size, the packages that are not installed here."""


def sizes() -> list[Size]:
    """The rows of the table."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    client = tomllib.loads(CLIENT.read_text(encoding="utf-8"))["project"]["dependencies"]
    base = needed(whole["dependencies"])
    found = [_size("`memstore-client`", needed(client), 0.0), _size("`memstore`", base, _own_bytes())]
    for extra, requirements in whole["optional-dependencies"].items():
        if extra not in NOT_SHOWN:
            found.append(_size(f"`memstore[{extra}]` adds", needed(requirements) - base, 0.0))
    return found


def needed(requirements: list[str]) -> frozenset[tuple[str, bool]]:
    """Names of all packages that these requirements need, and whether each is installed here."""
    seen: set[tuple[str, str]] = set()
    found: set[tuple[str, bool]] = set()
    left = [(Requirement(one), "") for one in requirements]
    while left:
        wanted, extra = left.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        own = _installed(name)
        found.add((name, own is not None))
        for key in ("", *wanted.extras):
            if own is not None and (name, key) not in seen:
                seen.add((name, key))
                left += [(Requirement(one), key) for one in own.requires or []]
    return frozenset(found)


def _size(install: str, packages: frozenset[tuple[str, bool]], own: float) -> Size:
    if not all(here for _, here in packages):
        return Size(install, len(packages), None, [name for name, here in sorted(packages) if not here])
    weights = {name: _bytes(name) / MB for name, _ in packages}
    order = sorted(weights, key=lambda name: -weights[name])[:3]
    largest = [f"{name} {weights[name]:,.0f}" for name in order if weights[name] >= 1]
    return Size(install, len(packages), sum(weights.values()) + own / MB, largest)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _bytes(name: str) -> int:
    files = [file.locate() for file in distribution(name).files or []]
    return sum(Path(file).stat().st_size for file in files if Path(file).is_file())


def _own_bytes() -> int:
    """Size of memstore itself, which is installed from this folder."""
    folders = [ROOT / name for name in OWN]
    files = (file for folder in folders for file in folder.rglob("*") if file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    found = sizes()
    if parser.parse_args().json:
        print(json.dumps([one._asdict() for one in found], indent=1))
        return
    print("| install | packages | MB | largest, MB |\n|---|---:|---:|---|")
    for one in found:
        mb = "-" if one.mb is None else f"{one.mb:,.0f}"
        largest = ", ".join(one.largest) or "-"
        print(
            f"| {one.install} | {one.packages} | {mb} | {'not installed here: ' if one.mb is None else ''}{largest} |"
        )


if __name__ == "__main__":
    main()
