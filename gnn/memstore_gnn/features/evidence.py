"""Label-free features of the texts of a group: float32 [T, about 70].

Recomputed equations, intermediate values shared within the group, wording, and programs: whether they parse, and
whether other rollouts have the same syntax tree. Each column is also given less the group's mean and averaged over
the rollouts with the same answer, because differences within a group are what ranks its rollouts.
"""

from __future__ import annotations

import numpy as np

from memstore.errors import InputError
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import Array, Groups, less_group, over_answer
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features import shared_items as sharing
from memstore_gnn.features import syntax
from memstore_gnn.features.equations import equations_of
from memstore_gnn.features.outline import answer_texts, answer_values, numbers_in, numbers_of
from memstore_gnn.features.wording import wording_columns

LIMIT = 6000
"""Characters searched for numbers, from the end of the text."""
MAX_NUMBERS = 64
"""Numbers read in one text, the last ones."""


def evidence_features(snapshot: Snapshot, groups: Groups) -> FeatureTable:
    """Compute the text features of every rollout.

    Raises:
        InputError: the snapshot was taken without texts.
    """
    if "text" not in snapshot.thinkings.column_names:
        raise InputError("the snapshot has no texts, which the features need; take it with texts=True")
    thinkings: list[str] = snapshot.thinkings["text"].fill_null("").to_pylist()
    values: list[str] = answer_values(snapshot).to_pylist()
    queries: list[str] = snapshot.queries["text"].fill_null("").to_pylist()
    query = groups.query_of.tolist()
    columns = _equation_columns(thinkings, values, queries, query)
    columns |= _number_columns(groups, thinkings, values, queries, query)
    columns |= wording_columns(thinkings, values, queries, query)
    columns |= _code_columns(snapshot, groups, queries, query)
    table = FeatureTable.from_columns(columns, len(thinkings))
    return table.concat(less_group(table, groups), over_answer(table, groups))


def _equation_columns(
    thinkings: list[str], values: list[str], queries: list[str], query: list[int]
) -> dict[str, Array]:
    found = [equations_of(text) for text in thinkings]
    given = [numbers_in(text) for text in queries]
    count = np.array([e.found for e in found], np.float64)
    wrong = np.array([e.wrong for e in found], np.float64)
    unsourced = np.array([e.unsourced(given[q]) for e, q in zip(found, query, strict=True)], np.float64)
    starts = [e.starts_unsourced(given[q]) for e, q in zip(found, query, strict=True)]
    gives = [e.last is not None and _close(e.last, value) for e, value in zip(found, values, strict=True)]
    return {
        "equations": np.log1p(count),
        "equation_errors": wrong / np.maximum(count, 1),
        "any_equation_wrong": wrong > 0,
        "equation_gives_value": np.array(gives, np.float64),
        "equation_unsourced": unsourced / np.maximum(count, 1),
        "equation_starts_unsourced": np.array(starts, np.float64),
    }


def _close(number: float, value: str) -> bool:
    try:
        return abs(float(value) - number) <= 1e-6 * max(1.0, abs(number))
    except ValueError:
        return False


def _number_columns(
    groups: Groups, thinkings: list[str], values: list[str], queries: list[str], query: list[int]
) -> dict[str, Array]:
    """Intermediate numbers: those of the thinking that are not in the query."""
    asked = [frozenset(_numbers(text)) for text in queries]
    found = [_numbers(text) for text in thinkings]
    between = [own - asked[q] for own, q in zip(found, query, strict=True)]
    shared = sharing.shared_items(groups, between)
    return {
        "numbers_shared": shared.mean,
        "numbers_least_shared": shared.least,
        "numbers_covered": shared.covered,
        "value_among_siblings": sharing.among_others(groups, found, [v if v[:1].isdigit() else "" for v in values]),
    }


def _numbers(text: str) -> set[str]:
    """The last `MAX_NUMBERS` numbers of a text, as plain decimals."""
    found = numbers_of(text[-LIMIT:])[-MAX_NUMBERS:]
    return {n if n.isdigit() else n.replace(",", "").rstrip(".").removesuffix(".00") for n in found}


def _code_columns(snapshot: Snapshot, groups: Groups, queries: list[str], query: list[int]) -> dict[str, Array]:
    """Features of programs in the code domain; 0 elsewhere."""
    domains: list[str] = snapshot.queries["domain"].fill_null("").to_pylist()
    answers: list[str] = answer_texts(snapshot).to_pylist()
    rows = np.zeros((len(answers), len(syntax.NAMES)))
    shapes = [""] * len(answers)
    for i, (answer, q) in enumerate(zip(answers, query, strict=True)):
        if domains[q] == "code":
            program = syntax.read_program(queries[q], answer)
            rows[i] = syntax.syntax_of(program)
            shapes[i] = syntax.shape(program)
    columns: dict[str, Array] = {name: rows[:, i] for i, name in enumerate(syntax.NAMES)}
    same = sharing.shared_items(groups, [[s] if s else [] for s in shapes])
    return columns | {"same_tree": same.mean}
