"""The cost model recovers laws that it is given, and says which figures are checked and which are extrapolated."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, importable during a test only."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("growth_model", "growth_engines"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import growth_model

    return growth_model


def results(folder: Path, sizes: tuple[int, ...]) -> Path:
    """Two verbs: one takes 2e-5 n^1.1 seconds and 1e8 + 500 n bytes, the other 3 + 1e-4 n seconds."""
    for size in sizes:
        ingest = {"wall": 1.0, "cpu": 2e-5 * size**1.1, "own": 1e8 + 500 * size, "disk": 6_000.0}
        found = {"ingest": ingest, "verify": {"wall": 1.0, "cpu": 3 + 1e-4 * size, "own": 2e8}}
        (folder / f"{size}.json").write_text(json.dumps(found))
    return folder


def test_laws_are_recovered_and_chosen_by_the_size_that_was_not_fitted(model: ModuleType, tmp_path: Path) -> None:
    found = model.read_results(results(tmp_path, (10_000, 30_000, 100_000)))
    fits = {(one.verb, one.quantity): one for one in model.fits_of(found, [10_000, 100_000], [30_000])}
    power = fits["ingest", "cpu"].best
    assert (power.power, power.a, power.b) == (True, pytest.approx(2e-5), pytest.approx(1.1))
    memory, affine = fits["ingest", "own"].best, fits["verify", "cpu"].best
    assert (memory.power, memory.a, memory.b) == (False, pytest.approx(1e8), pytest.approx(500))
    assert (affine.power, affine.a, affine.b) == (False, pytest.approx(3), pytest.approx(1e-4))
    assert fits["ingest", "disk"].best.at(10**9) == pytest.approx(6e12)
    for one in fits.values():
        assert one.checked
        assert one.errors[0] == pytest.approx(0, abs=1e-9)
        assert one.errors[1] >= one.errors[0]


def test_three_sizes_leave_a_residual(model: ModuleType) -> None:
    points = [(10, 10.0), (100, 130.0), (1000, 1000.0)]
    one = model.fit("link", "cpu", points, [])
    assert not one.checked
    assert 0.05 < one.residual < 0.3
    assert one.residual == one.best.error(points)


def test_the_table_has_targets_prices_and_engines(
    model: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results(tmp_path, (10_000, 30_000, 100_000))
    model.main(["--results", str(tmp_path), "--targets", "1000000000", "--price-core-hour", "1"])
    printed = capsys.readouterr().out
    assert "measured: 10,000, 30,000, 100,000 rollouts; everything larger is extrapolated" in printed
    hours = 2e-5 * 1e9**1.1 / 3600
    assert f"| read, validate, split, ids | memstore | {hours:,.0f} |" in printed
    assert f"once {hours + (3 + 1e5) / 3600:,.0f}, their disk {6_000 * 0.08:,.0f} a month" in printed
    assert "Neo4j: 1,600,000,000 nodes, 10,600,000,000 relationships" in printed
    assert "24,000,000,000 properties, 35% of the tightest limit" in printed
    assert "| all | |" in printed


def test_prices_are_proportional(model: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    once = []
    for price in (1.0, 2.0):
        model.print_engines(10**8, 3600.0, model.Prices(core_hour=price))
        once.append(float(capsys.readouterr().out.partition("Once: ")[2].partition(". ")[0].replace(",", "")))
    assert once[1] == pytest.approx(2 * once[0], abs=1)


def test_results_of_one_size_are_not_extrapolated(model: ModuleType, tmp_path: Path) -> None:
    results(tmp_path, (10_000,))
    with pytest.raises(SystemExit, match="has no verb with two of the sizes"):
        model.main(["--results", str(tmp_path)])
