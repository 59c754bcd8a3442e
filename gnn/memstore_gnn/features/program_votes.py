"""Votes over program behaviour: programs with the same outcomes on the same calls agree, however they are written.

In the code domain this takes the place of equal answers. The calls are those shown in the query's text and
variations of them. If the text shows the result of a call, passing it is a feature as well. Labels and reference
tests are not used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.text.literal import literal_value
from memstore_gnn.data.groups import Array, Groups, Partition, groups_of
from memstore_gnn.features import shared_items as shared
from memstore_gnn.features.call_examples import entry_point, examples_of, inputs_of
from memstore_gnn.features.outline import answer_texts
from memstore_gnn.features.syntax import normal_source, read_program
from memstore_gnn.programs.outcomes import UNKNOWN, Task, canonical
from memstore_gnn.programs.worker import outcomes

NOTHING = "None"
"""Outcome of a function without a return value. Programs that return nothing else do not agree with each other."""


@dataclass(frozen=True)
class Behaviour:
    """Agreement of the programs of a snapshot.

    Attributes:
        groups: as given, but in the code domain `answer` is by outcomes: programs with the same outcomes share a
            cell. A program that only returned None, or that could not be interpreted, counts as a rollout without
            an answer.
        columns: see `behaviour_of`.
    """

    groups: Groups
    columns: dict[str, Array]


@dataclass(frozen=True)
class _Calls:
    name: str
    arguments: tuple[str, ...]
    expected: tuple[str, ...]
    """Canonical result of each call; "" if the query's text does not show it."""


def behaviour_of(snapshot: Snapshot, groups: Groups) -> Behaviour:
    """Interpret the programs of the code domain and compare their outcomes.

    The columns are 0 outside the code domain:

        interpreted     share of the calls with a known outcome
        raises          share of these that raised an exception
        shown           log(1 + number of calls whose result the query shows)
        passed          share of the shown results that the program returns; 0 without any
        passed_all      it returns all of them, and there is at least one
        failed_any      it fails at least one
        outcome_share   mean over calls of the share of the other rollouts with the same outcome
        outcome_least   minimum over calls of that share
    """
    rows = snapshot.thinkings.num_rows
    calls = _calls(snapshot)
    found = _outcomes(snapshot, groups, calls)
    known, raised, passed, failed, shown = (np.zeros(rows) for _ in range(5))
    signature: list[str] = [""] * rows
    items: list[list[str]] = [[] for _ in range(rows)]
    for i, results in found.items():
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
    same = shared.shared_items(groups, items)
    columns = {
        "interpreted": known,
        "raises": raised,
        "shown": np.log1p(shown),
        "passed": passed / np.maximum(shown, 1),
        "passed_all": (shown > 0) & (failed == 0),
        "failed_any": failed > 0,
        "outcome_share": same.mean,
        "outcome_least": same.least,
    }
    return Behaviour(_regrouped(snapshot, groups, signature), columns)


def run_programs(snapshot: Snapshot) -> None:
    """Run the programs of a snapshot, so that `behaviour_of` finds their outcomes in the cache.

    Raises:
        ModelError: the interpreter does not start.
    """
    _outcomes(snapshot, groups_of(snapshot), _calls(snapshot))


def _calls(snapshot: Snapshot) -> dict[int, _Calls]:
    """Calls to make for each query of the code domain that names a function, by the query's position."""
    out = {}
    domains = snapshot.queries["domain"].to_pylist()
    for position, (domain, text) in enumerate(zip(domains, snapshot.queries["text"].to_pylist(), strict=True)):
        name = entry_point(text) if domain == "code" else None
        if name is None:
            continue
        examples = examples_of(text, name)
        inputs = inputs_of(examples, text, name)
        results = {repr(e.arguments): canonical(e.expected[0]) for e in examples if e.expected}
        literals = tuple(repr(arguments) for arguments in inputs)
        out[position] = _Calls(name, literals, tuple(results.get(arguments, "") for arguments in literals))
    return out


def _outcomes(snapshot: Snapshot, groups: Groups, calls: dict[int, _Calls]) -> dict[int, list[str]]:
    """Outcomes of each rollout's calls, without the rollouts whose answer is not a program. Equal programs run once."""
    texts, answers = snapshot.queries["text"].to_pylist(), answer_texts(snapshot).to_pylist()
    tasks: dict[Task, list[int]] = {}
    for i, query in enumerate(groups.query_of.tolist()):
        if query in calls:
            if literal_value(answers[i]) is not None:
                continue
            source = normal_source(read_program(texts[query], answers[i]))
            if source is not None:
                task = Task(source, calls[query].name, calls[query].arguments)
                tasks.setdefault(task, []).append(i)
    policy_group = groups.policy_group.cell.tolist()
    found = outcomes(list(tasks), [policy_group[rollouts[0]] for rollouts in tasks.values()])
    return {i: results for results, rollouts in zip(found, tasks.values(), strict=True) for i in rollouts}


def _regrouped(snapshot: Snapshot, groups: Groups, signature: list[str]) -> Groups:
    """The groups with `answer` by signature in the code domain; a blank signature counts as no answer."""
    code = np.array([domain == "code" for domain in snapshot.queries["domain"].to_pylist()], bool)[groups.query_of]
    if not code.any():
        return groups
    # An answer that is a value, such as the output of a program, is compared as in the other domains.
    texts = answer_texts(snapshot).to_pylist()
    code &= np.array(
        [not of_code or literal_value(text) is None for of_code, text in zip(code, texts, strict=True)], bool
    )
    rows = len(groups.query_of)
    ran = np.array([bool(s) for s in signature], bool)
    numbers: dict[str, int] = {}
    by_signature = np.array([numbers.setdefault(s, len(numbers)) for s in signature], np.int64)
    # Three disjoint ranges of keys: answers, signatures within a query, and rollouts that agree with no other.
    key = groups.answer.cell.copy()
    first_signature = len(groups.answer.count)
    signatures = max(len(numbers), 1)
    key[code & ran] = first_signature + (groups.query.cell * signatures + by_signature)[code & ran]
    first_alone = first_signature + (int(groups.query.cell.max(initial=0)) + 1) * signatures
    key[code & ~ran] = first_alone + np.arange(rows)[code & ~ran]
    answer = Partition.of(key)
    policy_answer = Partition.of(groups.policy_group.cell * max(len(answer.count), 1) + answer.cell)
    return replace(groups, answer=answer, policy_answer=policy_answer, answered=np.where(code, ran, groups.answered))
