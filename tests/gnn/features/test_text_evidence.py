"""Evidence in texts: equations, wording, shared items and programs, in bounded time for any text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from memstore.errors import InputError
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import groups_of
from memstore_gnn.features.evidence import evidence_features
from memstore_gnn.features.shared_items import among_others, shared_items
from memstore_gnn.features.structure import structure_features
from memstore_gnn.features.syntax import read_program, shape
from memstore_gnn.features.wording import NAMES, wording_of

HOSTILE = [
    "1" * 200_000,
    "1+" * 100_000 + "=",
    "1 + " * 50_000,
    "((((" * 50_000 + "=",
    "\\frac{1}{" * 20_000,
    "1,1." * 50_000 + "=",
    "(a" * 100_000,
    "= " * 100_000 + "1",
    "f(" * 100_000,
    "def f(" * 20_000,
    "```python\n" * 20_000,
    " " * 200_000 + "=",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_the_time_is_bounded_for_any_text(build_snapshot: Callable[..., Snapshot], text: str) -> None:
    rows = [
        {"query": domain + text, "domain": domain, "value": "1", "thinking": text, "answer": text}
        for domain in ("math", "code")
    ]
    snapshot = build_snapshot(rows)
    start = time.process_time()
    groups = groups_of(snapshot)
    tables = structure_features(snapshot, groups), evidence_features(snapshot, groups)
    assert time.process_time() - start < 10.0
    assert all(np.isfinite(table.values).all() for table in tables)


def test_items_shared_within_a_group(build_snapshot: Callable[..., Snapshot]) -> None:
    """A group with items {a, b}, {a}, {c}, and a group of one with {a}."""
    rows = [{"query": q, "value": "1", "sample_index": i} for i, q in enumerate(["q", "q", "q", "other"])]
    snapshot = build_snapshot(rows)
    at = np.argsort(snapshot.thinkings["sample_index"].to_numpy())
    items: list[list[str]] = [[]] * 4
    for place, own in zip(at, [["a", "b"], ["a"], ["c"], ["a"]], strict=True):
        items[place] = own
    shared = shared_items(groups_of(snapshot), items)
    np.testing.assert_allclose(shared.mean[at], [0.25, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(shared.least[at], [0.0, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(shared.covered[at], [1.0, 1.0, 0.0, 1.0])
    wanted = ["a", "a", "b", "a"]
    found = among_others(groups_of(snapshot), items, [wanted[i] for i in np.argsort(at)])
    np.testing.assert_allclose(found[at], [0.5, 0.5, 0.5, 0.0])


def test_wording_of_a_choice() -> None:
    text = "Perhaps (A) or option B.\nTherefore the answer is (B)."
    made = dict(zip(NAMES, wording_of(text, "B", frozenset({"answer", "unknown"})), strict=True))
    assert made["options_named"] == 2
    assert made["option_last"] == 1
    assert made["option_share"] == pytest.approx(2 / 3)
    assert made["ends"] == 1
    assert made["doubt"] > 0
    assert made["conclusion"] > 0
    assert made["query_words"] == 0.5
    assert wording_of(" ", "B", frozenset()) == (0.0,) * len(NAMES)


BEGUN = 'def add(a, b):\n    """Sum."""\n'


@pytest.mark.parametrize(
    ("query", "answer", "reads", "completes"),
    [
        (BEGUN, "    return a + b\n", True, True),
        (BEGUN, "return a + b", True, True),
        (BEGUN, "def add(a, b):\n    return a + b", True, False),
        ("Add two numbers.", "```python\ndef add(a, b):\n    return a + b\n```", True, False),
        (BEGUN, "    return a +\n", False, True),
        (BEGUN, "", False, False),
        (BEGUN, "\0", False, False),
        (BEGUN, "(" * 5000, False, True),
    ],
)
def test_programs_are_parsed(query: str, answer: str, reads: bool, completes: bool) -> None:
    program = read_program(query, answer)
    assert (program.tree is not None, program.completes) == (reads, completes)


def test_programs_that_differ_in_names_have_the_same_shape() -> None:
    one = read_program("", "def f(x):\n    y = x + 1  # comment\n    return y")
    two = read_program("", "def g(value: int) -> int:\n\n    out = value + 1\n    return out")
    other = read_program("", "def g(value):\n    out = value - 1\n    return out")
    assert shape(one) == shape(two) != shape(other)


def test_evidence_needs_texts(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = build_snapshot([{"query": "q", "value": "1"}])
    bare = replace(snapshot, thinkings=snapshot.thinkings.drop_columns(["text"]))
    with pytest.raises(InputError, match="texts=True"):
        evidence_features(bare, groups_of(bare))
