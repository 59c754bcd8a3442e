"""Program votes: example calls of a query, outcomes from a worker process, agreement of outcomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import groups_of
from memstore_gnn.features.call_examples import entry_point, examples_of, inputs_of
from memstore_gnn.features.program_votes import behaviour_of
from memstore_gnn.programs.limits import TooMuch
from memstore_gnn.programs.outcomes import UNKNOWN, Task, canonical
from memstore_gnn.programs.worker import outcomes

QUERY = '''def largest(xs, least=0):
    """The largest.
    >>> largest([1, 3, 2])
    3
    >>> largest([])
    largest([4]) == 4
    """
'''


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">>> f(1, 2)\n3\n", [((1, 2), (3,))]),
        ("f([1, 'a)']) == [1]  # so", [(([1, "a)"],), ([1],))]),
        ('f("a") => "b"', [(("a",), ("b",))]),
        ("f(5) ➞ true.", [((5,), (True,))]),
        ("f(5) returns None", [((5,), (None,))]),
        ("assert f({'a': 1}) == (1, 2)", [(({"a": 1},), ((1, 2),))]),
        ("f(5) and more", [((5,), ())]),
        ("f(x) == 3, g(1) == 2, def f(1)", []),  # no literal, another function, a definition
        ("f(1) = 1 ... f(1)", [((1,), (1,))]),  # once
    ],
)
def test_calls_are_read_from_a_text(text: str, expected: list[Any]) -> None:
    assert [tuple(example) for example in examples_of(text, "f")] == expected


def test_the_requested_function_is_found() -> None:
    assert entry_point("def helper(x):\n    return x\n\ndef wanted(y):\n") == "wanted"
    assert entry_point("Write a function.\nassert wanted(1) == 2") == "wanted"
    assert entry_point("Write a program.") is None


def test_inputs_without_examples_follow_the_signature() -> None:
    annotated = inputs_of([], "from typing import List\ndef f(names: List[str], n: int):\n", "f")
    assert len(annotated) >= 8
    assert all(isinstance(names, list) and isinstance(n, int) for names, n in annotated)
    assert all(isinstance(arguments[0], str) for arguments in inputs_of([], "def f(text):\n", "f"))


def test_outcomes_are_values_errors_or_unknown() -> None:
    sources = [
        "def f(x):\n    return [x, 1.0]",
        "def f(x):\n    return x[0]",
        "import os\ndef f(x):\n    return 1",
        "f = (",
    ]
    tasks = [Task(source, "f", ("(1,)", "('ab',)")) for source in sources]
    assert outcomes(tasks) == [
        ["[1,1]", "['ab',1]"],
        ["!TypeError", "'a'"],
        [UNKNOWN, UNKNOWN],
        [UNKNOWN, UNKNOWN],
    ]


@pytest.mark.parametrize("tie_up", ["return str(x)", "return x == y", "return {(x,): 1}", "return sorted([x, y])"])
def test_a_program_that_blocks_its_worker_does_not_affect_others(monkeypatch: pytest.MonkeyPatch, tie_up: str) -> None:
    """A pair that contains itself twice, forty levels deep, is small until it is printed or compared."""
    monkeypatch.setattr("memstore_gnn.programs.worker.RESPONSE_SECONDS", 3.0)
    tangled = f"def f(x):\n    y = x\n    for _ in range(40):\n        x, y = (x, x), (y, y)\n    {tie_up}"
    good = "def f(x):\n    return x + 1"
    tasks = [Task(source, "f", ("(1,)",)) for source in (good, tangled, good)]
    assert outcomes(tasks) == [["2"], [UNKNOWN], ["2"]]


@pytest.mark.parametrize(("one", "two"), [(1, 1.0), (True, 1), ({2, 1}, {1, 2}), ({"a": 1, "b": 2}, {"b": 2, "a": 1})])
def test_equal_values_have_equal_outcomes(one: Any, two: Any) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(("one", "two"), [([1], (1,)), ("1", 1), ([1, 2], [2, 1]), (None, "None"), (0.1, 0.2)])
def test_different_values_have_different_outcomes(one: Any, two: Any) -> None:
    assert canonical(one) != canonical(two)


def test_a_result_that_is_too_large_is_not_compared() -> None:
    with pytest.raises(TooMuch):
        canonical(list(range(10_000)))


def test_programs_with_equal_outcomes_agree(build_snapshot: Callable[..., Snapshot]) -> None:
    answers = [
        "    return max(xs, default=None)\n",
        "    if not xs:\n        return None\n    return sorted(xs)[-1]\n",
        "    best = None\n    for x in xs:\n        best = x if best is None or x > best else best\n    return best\n",
        "    return xs[0] if xs else None\n",
        "    return nothing\n",
        "    return (\n",
    ]
    rows = [
        {"query": QUERY, "domain": "code", "value": a, "answer": a, "sample_index": i} for i, a in enumerate(answers)
    ]
    rows.append({"query": "1 + 1", "domain": "math", "value": "2", "sample_index": 6})
    snapshot = build_snapshot(rows)
    at = np.argsort(snapshot.thinkings["sample_index"].to_numpy())
    plain = groups_of(snapshot)
    made = behaviour_of(snapshot, plain)
    np.testing.assert_allclose(plain.votes[at], 1)
    np.testing.assert_allclose(made.groups.votes[at], [3, 3, 3, 1, 0, 0, 1])
    np.testing.assert_allclose(made.columns["passed"][at], [1, 1, 1, 0.5, 0, 0, 0])
    np.testing.assert_array_equal(made.columns["failed_any"][at], [False, False, False, True, True, False, False])
    np.testing.assert_array_equal(made.columns["raises"][at][4:], [1, 0, 0])


def test_programs_without_a_body_do_not_agree(build_snapshot: Callable[..., Snapshot]) -> None:
    answers = ["    pass\n", "    # to do\n    pass\n", "    return None\n", "    return max(xs, default=None)\n"]
    snapshot = build_snapshot(
        [{"query": QUERY, "domain": "code", "value": a, "answer": a, "sample_index": i} for i, a in enumerate(answers)]
    )
    at = np.argsort(snapshot.thinkings["sample_index"].to_numpy())
    made = behaviour_of(snapshot, groups_of(snapshot))
    np.testing.assert_allclose(made.groups.votes[at], [0, 0, 0, 1])
    np.testing.assert_allclose(made.columns["interpreted"][at], 1)
    np.testing.assert_allclose(made.columns["outcome_share"][at][:3], 0)


def test_answers_that_are_values_keep_their_votes(build_snapshot: Callable[..., Snapshot]) -> None:
    """Answers that are outputs and not programs are compared by value."""
    query = "Complete the assertion.\ndef f(a):\n    return a\nassert f(1) == ??"
    values = ["[1, 2]", "[1, 2]", "'abc'", "'ab'"]
    snapshot = build_snapshot(
        [
            {"query": query, "domain": "code", "value": value, "answer": value, "sample_index": n}
            for n, value in enumerate(values)
        ]
    )
    at = np.argsort(snapshot.thinkings["sample_index"].to_numpy())
    made = behaviour_of(snapshot, groups_of(snapshot)).groups
    cell = made.answer.cell[at]
    assert cell[0] == cell[1]
    assert len(set(cell.tolist())) == 3
    assert made.answered[at].all()


def test_groups_without_code_are_unchanged(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = build_snapshot([{"query": "q", "value": v} for v in ("1", "1", "2")])
    groups = groups_of(snapshot)
    assert behaviour_of(snapshot, groups).groups is groups
