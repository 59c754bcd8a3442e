"""Ids: hashes of content and key, so that ingesting the same rollouts again changes nothing.

Each part is hashed with its length, so ("ab", "c") and ("a", "bc") differ, and so do an absent part and an empty one.
Ids have 96 bits. Among 10^9 nodes, the probability of a collision is about 10^-11.
"""

from __future__ import annotations

import hashlib

from memstore.types import AnswerId, QueryId, RolloutId

_BYTES = 12
"""Length of a digest, in bytes."""


def _digest(*parts: str | int | None) -> str:
    encoded = [b"n" if part is None else _with_length(str(part).encode("utf-8")) for part in parts]
    return hashlib.blake2b(b"".join(encoded), digest_size=_BYTES).hexdigest()


def _with_length(data: bytes) -> bytes:
    return b"%d:%b" % (len(data), data)


def query_id(dataset: str, key: str | None, text: str) -> QueryId:
    """Id of a query. `key` is the source's own key, None if it has none.

    The text is part of the id: two prompts for one key of a benchmark are two queries.
    """
    return QueryId("q-" + _digest(dataset, key, text))


def rollout_id(
    query: QueryId,
    *,
    policy: str,
    run: str | None,
    step: int | None,
    sample_index: int | None,
    occurrence: int,
    thinking: str,
    answer: str,
) -> RolloutId:
    """Id of a rollout, derived from the content of its row only.

    Args:
        run: run that the row or the caller names; None if it is derived from the file's name, so that renaming or
            splitting a file adds no rollouts.
        sample_index: index that the row gives, None if it gives none.
        occurrence: number of earlier rows of the same input with the same values and texts; 0 if the row has a
            `sample_index`.
    """
    return RolloutId("t-" + _digest(query, policy, run, step, sample_index, occurrence, thinking, answer))


def answer_id(query: QueryId, value: str) -> AnswerId:
    """Id of the answer that the rollouts of `query` with the canonical value `value` share."""
    return AnswerId("a-" + _digest(query, value))


def run_id(name: str) -> str:
    """Id of the run `name`."""
    return "r-" + _digest(name)


def vector_key(text: str) -> str:
    """Content hash that the vector of `text` is cached under, 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()
