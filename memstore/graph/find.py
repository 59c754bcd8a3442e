"""Find nodes by the beginning of their ids."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Sequence

from memstore.errors import InputError
from memstore.graph.protocol import GraphReader
from memstore_schema.columns import NodeLabel

NOUNS = {
    NodeLabel.QUERY: ("query", "queries"),
    NodeLabel.THINKING: ("rollout", "rollouts"),
    NodeLabel.ANSWER: ("answer", "answers"),
    NodeLabel.RUN: ("run", "runs"),
    NodeLabel.POLICY: ("policy", "policies"),
    NodeLabel.REWARD_MODEL: ("reward model", "reward models"),
    NodeLabel.BATCH: ("batch", "batches"),
    NodeLabel.DATASET: ("dataset", "datasets"),
}
"""Singular and plural of each label in messages."""
_PREFIXES = {
    "q-": NodeLabel.QUERY,
    "t-": NodeLabel.THINKING,
    "a-": NodeLabel.ANSWER,
    "r-": NodeLabel.RUN,
    "p-": NodeLabel.POLICY,
}
_SHOWN = 3
"""Ids that a message lists."""


def full_ids(graph: GraphReader, label: NodeLabel, names: Sequence[str]) -> list[str]:
    """The ids of these nodes, each given as the whole id or as the beginning of exactly one.

    Raises:
        InputError: no node has such an id, or several have.
    """
    exact = set(graph.nodes(label, ["id"], ids=sorted(set(names)))["id"].to_pylist())
    if exact.issuperset(names):
        return list(names)
    ordered: list[str] = graph.nodes(label, ["id"])["id"].to_pylist()
    found = {name: name if name in exact else _completed(name, ordered, label) for name in dict.fromkeys(names)}
    missing = [name for name, node in found.items() if node is None]
    if missing:
        raise InputError(_not_found(missing, ordered, label))
    return [node for name in names if (node := found[name]) is not None]


def full_id(graph: GraphReader, label: NodeLabel, name: str) -> str:
    """The id of one node; see `full_ids`."""
    return full_ids(graph, label, [name])[0]


def _completed(name: str, ordered: list[str], label: NodeLabel) -> str | None:
    """The only id that begins with `name`; None if there is none. `ordered` is sorted."""
    if not name:
        return None
    first = bisect_left(ordered, name)
    last = bisect_left(ordered, name + "\U0010ffff", lo=first)
    if last - first > 1:
        shown = ", ".join(ordered[first : min(last, first + _SHOWN)])
        more = f" and {last - first - _SHOWN:,} more" if last - first > _SHOWN else ""
        raise InputError(
            f"{last - first:,} {NOUNS[label][1]} have an id that begins with {name!r} ({shown}{more}); pass more "
            "characters of the id"
        )
    return ordered[first] if last > first else None


def _not_found(names: list[str], ordered: list[str], label: NodeLabel) -> str:
    name, (noun, plural) = names[0], NOUNS[label]
    other = _PREFIXES.get(name[:2])
    if other is not None and other is not label:
        wanted = _article(noun)
        return f"{name!r} is the id of {_article(NOUNS[other][0])}, not of {wanted}; pass the id of {wanted}"
    others = f", nor {len(names) - 1:,} more of the given {plural}" if len(names) > 1 else ""
    close = difflib.get_close_matches(name, ordered, n=1) if len(ordered) <= 100_000 else []
    hint = f"did you mean {close[0]}?" if close else "`memstore cypher` lists the ids"
    return f"the memory has no {noun} with the id {name!r}{others}; {hint}"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
