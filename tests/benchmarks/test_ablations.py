"""Ablations of the reward model replace functions of the package, which must exist by these names."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from memstore_gnn.features import assemble
from memstore_gnn.models import inputs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The ablations by name, importable during a test only."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "ablations", raising=False)
    from ablations import ABLATIONS

    return dict(ABLATIONS)


def test_every_ablation_replaces_what_is_there(ablations: dict[str, Any]) -> None:
    assert len(ablations) > 5
    for make in ablations.values():
        with ExitStack() as stack:
            for one in make().patches():
                stack.enter_context(one)


def test_features_are_replaced_where_they_are_computed(ablations: dict[str, Any]) -> None:
    real = assemble.compute_group_features
    with ExitStack() as stack:
        for one in ablations["without_text_evidence"]().patches():
            stack.enter_context(one)
        assert real not in (assemble.compute_group_features, inputs.compute_group_features)
    assert real is assemble.compute_group_features is inputs.compute_group_features
