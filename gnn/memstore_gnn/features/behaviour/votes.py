"""Votes over behaviour: programs that give the same results on the same calls agree, however they are written.

For the code domain this is what equal answers are elsewhere. The calls are those that the query shows and
variations of them; where the query says what a call gives, passing is a feature of its own. Labels and reference
tests are not used.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import Array, Groups, Partition
from memstore_gnn.features import shared_items as siblings
from memstore_gnn.features.behaviour.examples import entry_point, examples_of, inputs_of
from memstore_gnn.features.behaviour.worker import UNKNOWN, Task, canonical, outcomes
from memstore_gnn.features.outline import answer_texts
from memstore_gnn.features.syntax import read_program

NOTHING = "None"
"""What a function without a body gives; programs that give nothing else agree on nothing."""


@dataclass(frozen=True)
class Behaviour:
    """What the programs of a snapshot do.

    Attributes:
        groups: as given, with `answer` replaced by behaviour in the code domain: programs with the same results
            share a cell; one that never returned a value other than None, or could not be interpreted, is as one
            without an answer.
        columns: see `behaviour_of`.
    """

    groups: Groups
    columns: dict[str, Array]


@dataclass(frozen=True)
class _Calls:
    name: str
    arguments: tuple[str, ...]
    expected: tuple[str, ...]
    """Canonical results of the first calls; "" where the query does not say."""


def behaviour_of(snapshot: Snapshot, groups: Groups) -> Behaviour:
    """Interpret the programs of the code domain and compare what they give.

    Columns, all 0 outside the code domain: `interpreted` (share of calls with a known outcome), `raises` (share that
    raised), `shown` (log of the calls whose result the query says), `passed` (share of those that the program
    gives; the group's mean where nothing is known), `passed_all`, `failed_any`, `outcome_share` (mean share of the
    siblings with the same outcome, over calls), `outcome_least`.
    """
    rows = snapshot.thinkings.num_rows
    calls = _calls(snapshot)
    given = _outcomes(snapshot, groups, calls)
    known, raised, passed, failed, shown = (np.zeros(rows) for _ in range(5))
    signature: list[str] = [""] * rows
    items: list[list[str]] = [[] for _ in range(rows)]
    for i, results in given.items():
        expected = calls[int(groups.query_of[i])].expected
        usable = [r for r in results if r != UNKNOWN]
        returned = [r for r in usable if not r.startswith("!")]
        values = returned if any(r != NOTHING for r in returned) else []
        known[i] = len(usable) / max(len(results), 1)
        raised[i] = (len(usable) - len(returned)) / max(len(usable), 1)
        checks = [r == e for r, e in zip(results, expected, strict=False) if e and r != UNKNOWN]
        shown[i] = len(checks)
        passed[i], failed[i] = sum(checks), len(checks) - sum(checks)
        signature[i] = "\x1f".join(results) if values else ""
        items[i] = [f"{n}:{r}" for n, r in enumerate(results) if values and r in returned]
    shared = siblings.shared_items(groups, items)
    columns = {
        "interpreted": known,
        "raises": raised,
        "shown": np.log1p(shown),
        "passed": passed / np.maximum(shown, 1),
        "passed_all": (shown > 0) & (failed == 0),
        "failed_any": failed > 0,
        "outcome_share": shared.mean,
        "outcome_least": shared.least,
    }
    return Behaviour(_regrouped(snapshot, groups, signature), columns)


def _calls(snapshot: Snapshot) -> dict[int, _Calls]:
    """The calls to make for each query of the code domain that names a function."""
    out = {}
    domains = snapshot.queries["domain"].to_pylist()
    for position, (domain, text) in enumerate(zip(domains, snapshot.queries["text"].to_pylist(), strict=True)):
        name = entry_point(text) if domain == "code" else None
        if name is None:
            continue
        examples = examples_of(text, name)
        inputs = inputs_of(examples, text, name)
        results = {repr(e.arguments): canonical(e.expected[0]) for e in examples if e.expected}
        spelt = tuple(repr(arguments) for arguments in inputs)
        out[position] = _Calls(name, spelt, tuple(results.get(arguments, "") for arguments in spelt))
    return out


def _outcomes(snapshot: Snapshot, groups: Groups, calls: dict[int, _Calls]) -> dict[int, list[str]]:
    """Outcomes of each rollout's calls; rollouts whose answer is no program have none. Equal programs run once."""
    texts, answers = snapshot.queries["text"].to_pylist(), answer_texts(snapshot).to_pylist()
    tasks: dict[Task, list[int]] = {}
    for i, query in enumerate(groups.query_of.tolist()):
        if query in calls:
            program = read_program(texts[query], answers[i])
            if program.tree is not None:
                task = Task(ast.unparse(program.tree), calls[query].name, calls[query].arguments)
                tasks.setdefault(task, []).append(i)
    found = outcomes(list(tasks))
    return {i: results for results, rollouts in zip(found, tasks.values(), strict=True) for i in rollouts}


def _regrouped(snapshot: Snapshot, groups: Groups, signature: list[str]) -> Groups:
    code = np.array([domain == "code" for domain in snapshot.queries["domain"].to_pylist()], bool)[groups.query_of]
    if not code.any():
        return groups
    rows = len(groups.query_of)
    ran = np.array([bool(s) for s in signature], bool)
    numbers: dict[str, int] = {}
    by_signature = np.array([numbers.setdefault(s, len(numbers)) for s in signature], np.int64)
    key = groups.answer.cell.copy()
    behind = len(groups.answer.count)
    key[code & ran] = behind + (groups.query.cell * max(len(numbers), 1) + by_signature)[code & ran]
    alone = behind + (int(groups.query.cell.max(initial=0)) + 1) * max(len(numbers), 1)
    key[code & ~ran] = alone + np.arange(rows)[code & ~ran]
    answer = Partition.of(key)
    own = Partition.of(groups.own.cell * max(len(answer.count), 1) + answer.cell)
    return replace(groups, answer=answer, own_answer=own, answered=np.where(code, ran, groups.answered))
