"""Outline features of a text: length, steps, use of the query's numbers, and whether it ends in its answer.

Text functions run on whole Arrow columns. Only numbers are searched in Python, in at most `LIMIT` characters.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import Array, Groups

LIMIT = 4000
"""Characters searched, from the end of the text, where results are."""

_NUMBER = re.compile(r"\d++(?:[.,]\d++)*+")


@lru_cache(maxsize=2048)
def numbers_of(text: str) -> tuple[str, ...]:
    """The numbers of a text as written. Cached, because two kinds of features read the texts of a batch."""
    return tuple(_NUMBER.findall(text))


@lru_cache(maxsize=2048)
def numbers_in(text: str) -> frozenset[float]:
    """The values of the numbers in the last `LIMIT` characters of a text; thousands may be separated by commas."""
    plain = (number.replace(",", "") for number in numbers_of(text[-LIMIT:]))
    return frozenset(float(number) for number in plain if number.count(".") < 2)


def outline_columns(snapshot: Snapshot, groups: Groups) -> dict[str, Array]:
    """The columns by name; empty for a snapshot without texts."""
    if "text" not in snapshot.thinkings.column_names:
        return {}
    thinking = snapshot.thinkings["text"].combine_chunks()
    answer = answer_texts(snapshot)
    length = _floats(pc.add(pc.utf8_length(thinking), pc.utf8_length(answer)))
    log_length = np.log1p(length)
    spread = np.sqrt(np.maximum(groups.query.mean(log_length**2) - groups.query.mean(log_length) ** 2, 1e-4))
    relative = log_length - groups.query.mean(log_length)
    lines = _floats(pc.add(pc.count_substring(thinking, "\n"), pc.count_substring(answer, "\n")))
    steps = np.log1p(lines + _floats(pc.count_substring(thinking, ". ")))
    used, introduced = _numbers(snapshot, groups, thinking, answer)
    return {
        "log_length": log_length,
        "log_length-group": relative,
        "length_z": relative / spread,
        "steps": steps,
        "steps-group": steps - groups.query.mean(steps),
        "answer_log_length": np.log1p(_floats(pc.utf8_length(answer))),
        "no_thinking": _floats(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(thinking)), 0)),
        "query_numbers": used,
        "query_numbers-group": used - groups.query.mean(used),
        "new_numbers": introduced,
        "new_numbers-group": introduced - groups.query.mean(introduced),
        **_answer_shape(snapshot, thinking),
    }


def answer_texts(snapshot: Snapshot) -> pa.Array:
    """Answer of each rollout as written; "" without an answer."""
    leads = snapshot.edges["leads_to"]
    position = np.full(snapshot.thinkings.num_rows, -1, np.int64)
    position[leads.source] = np.arange(len(leads.source))
    at = pa.array(position, mask=position < 0)
    return leads.properties["text"].combine_chunks().take(at).fill_null("")


def answer_values(snapshot: Snapshot) -> pa.Array:
    """Canonical answer of each rollout; "" without an answer."""
    leads = snapshot.edges["leads_to"]
    position = np.full(snapshot.thinkings.num_rows, -1, np.int64)
    position[leads.source] = leads.target
    at = pa.array(position, mask=position < 0)
    return snapshot.answers["value"].combine_chunks().take(at).fill_null("")


def _answer_shape(snapshot: Snapshot, thinking: pa.Array) -> dict[str, Array]:
    """Whether the answer is an integer, a fraction or negative, and whether the thinking ends in it."""
    value = answer_values(snapshot)
    short = pc.and_(pc.greater(pc.utf8_length(value), 0), pc.less(pc.utf8_length(value), 40))
    at_end = [
        bool(v) and v in t
        for v, t in zip(value.to_pylist(), pc.utf8_slice_codeunits(thinking, -120).to_pylist(), strict=True)
    ]
    return {
        "integer": _floats(pc.match_substring_regex(value, r"^-?[0-9]{1,15}$")),
        "fraction": _floats(pc.match_substring_regex(value, r"^-?[0-9]{0,15}[./][0-9]{1,15}$")),
        "negative": _floats(pc.starts_with(value, "-")),
        "value_at_end": np.array(at_end, np.float64) * _floats(short),
    }


def _numbers(snapshot: Snapshot, groups: Groups, thinking: pa.Array, answer: pa.Array) -> tuple[Array, Array]:
    """Share of the query's numbers that the rollout uses, and log(1 + number of new numbers)."""
    of_query = [frozenset(numbers_of(text[:LIMIT])) for text in snapshot.queries["text"].to_pylist()]
    used = np.zeros(len(thinking))
    introduced = np.zeros(len(thinking))
    for i, (text, end, query) in enumerate(
        zip(thinking.to_pylist(), answer.to_pylist(), groups.query_of.tolist(), strict=True)
    ):
        found = set(numbers_of(text[-LIMIT:] or end[-LIMIT:]))
        asked = of_query[query]
        common = len(found & asked)
        used[i] = common / len(asked) if asked else 1.0
        introduced[i] = len(found) - common
    return used, np.log1p(introduced)


def _floats(column: Any) -> Array:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
