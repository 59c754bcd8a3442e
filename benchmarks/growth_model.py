"""What 100 million and a billion rollouts would take, extrapolated from the results of benchmarks/growth.py.

    python benchmarks/growth_model.py --results FOLDER [--fit 10000 100000] [--check 30000]
        [--targets 100000000 1000000000] [--price-core-hour .04] [--price-gb-month .08] [--memory-a-core 8]

`FOLDER` has the files SIZE.json that growth.py writes. Processor seconds, memory and disk of each verb are fitted at
the sizes of `--fit` by two laws: a n^b (least squares of the logarithms) and a + b n (of the relative errors). The size
of `--check` is not fitted. Its error is printed for both laws, and the better one is used. It was chosen by that error,
so the error flatters it; what the other law gives is in brackets.

Everything above the largest measured size is extrapolated. A fit cannot know what changes above it: links are exact up
to 200,000 rows and approximate from there, and training reads a part of a memory of more than 100,000 rollouts. The
second part divides the work of a memory on servers between memstore and the engines (`growth_engines.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from growth_engines import Prices, print_engines

QUANTITIES = {"cpu": "core s", "own": "memory, GB", "disk": "disk, GB"}
BYTES = 1e9
Results = Mapping[int, Mapping[str, Mapping[str, Any]]]
"""By size and verb, what growth.py measured."""


class Law(NamedTuple):
    """`a n^b` (power) or `a + b n` (affine)."""

    power: bool
    a: float
    b: float

    def at(self, n: float) -> float:
        """The value at n rollouts; never negative."""
        return self.a * n**self.b if self.power else max(self.a + self.b * n, 0.0)

    def __str__(self) -> str:
        return f"{self.a:.2g} n^{self.b:.2f}" if self.power else f"{self.a:.2g} + {self.b:.2g} n"

    def error(self, points: Sequence[tuple[int, float]]) -> float:
        """The largest relative error at some points; 0 without any."""
        return max((abs(self.at(n) / value - 1) for n, value in points), default=0.0)


class Fit(NamedTuple):
    """The two laws of a quantity, the better one first, with their errors at the checked sizes."""

    verb: str
    quantity: str
    best: Law
    other: Law
    checked: bool
    errors: tuple[float, float]
    residual: float
    """The largest relative error of the better law at the fitted sizes; 0 with two sizes, which any law fits."""


def fit_power(points: Sequence[tuple[int, float]]) -> Law:
    """Least squares of the logarithms."""
    n, value = np.log([point[0] for point in points]), np.log([point[1] for point in points])
    slope, constant = np.polyfit(n, value, 1)
    return Law(True, math.exp(constant), float(slope))


def fit_affine(points: Sequence[tuple[int, float]]) -> Law:
    """Least squares of the relative errors."""
    n, value = np.array(points, np.float64).T
    constant, slope = np.linalg.lstsq(np.stack((1 / value, n / value), axis=1), np.ones(len(n)), rcond=None)[0]
    return Law(False, float(constant), float(slope))


def fit(verb: str, quantity: str, fitted: Sequence[tuple[int, float]], check: Sequence[tuple[int, float]]) -> Fit:
    """Fit both laws, and put the one with the smaller error at the checked sizes first."""
    laws = sorted((fit_power(fitted), fit_affine(fitted)), key=lambda law: law.error(check))
    errors = laws[0].error(check), laws[1].error(check)
    return Fit(verb, quantity, laws[0], laws[1], bool(check), errors, laws[0].error(fitted))


def read_results(folder: Path) -> dict[int, dict[str, dict[str, Any]]]:
    """The results in a folder by size; the disk of a rollout becomes that of all."""
    found = {int(path.stem): json.loads(path.read_text()) for path in folder.glob("*.json") if path.stem.isdigit()}
    for size, verbs in found.items():
        for one in verbs.values():
            if "disk" in one:
                one["disk"] *= size
    return dict(sorted(found.items()))


def fits_of(results: Results, fitted: Sequence[int], check: Sequence[int]) -> Iterator[Fit]:
    """Fits of all quantities with at least two of the fitted sizes."""
    verbs = dict.fromkeys(verb for size in results for verb in results[size])
    for verb in verbs:
        for quantity in QUANTITIES:
            points = {size: one[verb][quantity] for size, one in results.items() if quantity in one.get(verb, {})}
            own = [(size, points[size]) for size in fitted if size in points]
            if len(own) > 1:
                yield fit(verb, quantity, own, [(size, points[size]) for size in check if size in points])


def print_laws(fits: Sequence[Fit], check: Sequence[int]) -> None:
    """The laws, their residuals at the fitted sizes, and their errors at the checked ones."""
    sizes = ", ".join(f"{size:,}" for size in check)
    print(f"| | | used | residual | error at {sizes} | the other law | its error |\n|---|---|---|--:|--:|---|--:|")
    for one in fits:
        error, other = (f"{error:.0%}" if one.checked else "" for error in one.errors)
        unit = QUANTITIES[one.quantity].replace("GB", "bytes")
        print(f"| {one.verb} | {unit} | {one.best} | {one.residual:.0%} | {error} | {one.other} | {other} |")


def print_targets(fits: Sequence[Fit], targets: Sequence[int], prices: Prices) -> None:
    """What one process on one machine would take, by both laws."""
    print("\n| | " + " | ".join(f"{n:,}: core hours | memory, GB | disk, GB" for n in targets) + " |")
    print("|---|" + "--:|" * (3 * len(targets)))
    by_verb: dict[str, dict[str, Fit]] = {}
    for one in fits:
        by_verb.setdefault(one.verb, {})[one.quantity] = one
    for verb, own in by_verb.items():
        cells = []
        for n in targets:
            for quantity, unit in (("cpu", 3600.0), ("own", BYTES), ("disk", BYTES)):
                cells.append(spread(own[quantity], n, unit) if quantity in own else "")
        print(f"| {verb} | " + " | ".join(cells) + " |")
    for n in targets:
        once = sum(one.best.at(n) / 3600 for one in fits if one.quantity == "cpu") * prices.core_hour
        monthly = sum(one.best.at(n) / BYTES for one in fits if one.quantity == "disk") * prices.gb_month
        print(f"{n:,}: the verbs above once {once:,.0f}, their disk {monthly:,.0f} a month")


def spread(one: Fit, n: int, unit: float) -> str:
    """The value of the better law, and that of the other in brackets."""
    return f"{short(one.best.at(n) / unit)} ({short(one.other.at(n) / unit)})"


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder with the results of growth.py")
    parser.add_argument("--fit", type=int, nargs="+", default=[10_000, 100_000], help="sizes to fit")
    parser.add_argument("--check", type=int, nargs="+", default=[30_000], help="sizes to check the laws at")
    parser.add_argument("--targets", type=int, nargs="+", default=[10**8, 10**9], help="sizes to extrapolate to")
    parser.add_argument("--price-core-hour", type=float, default=0.04, help="of a core with its memory (default .04)")
    parser.add_argument("--price-gb-month", type=float, default=0.08, help="of a gigabyte of disk (default .08)")
    parser.add_argument("--memory-a-core", type=float, default=8.0, help="GB of memory rented with a core (default 8)")
    options = parser.parse_args(arguments)
    results = read_results(options.results)
    fits = list(fits_of(results, options.fit, options.check))
    if not fits:
        sys.exit(f"{options.results} has no verb with two of the sizes {options.fit}; run benchmarks/growth.py first")
    prices = Prices(options.price_core_hour, options.price_gb_month, options.memory_a_core)
    print(f"measured: {', '.join(f'{size:,}' for size in results)} rollouts; everything larger is extrapolated\n")
    print_laws(fits, options.check)
    print_targets(fits, options.targets, prices)
    ingest = next((one.best for one in fits if (one.verb, one.quantity) == ("ingest", "cpu")), None)
    for n in options.targets:
        print_engines(n, ingest.at(n) if ingest else None, prices)


if __name__ == "__main__":
    main()
