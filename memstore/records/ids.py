"""Ids: hashes of content and key, so that ingesting the same rollouts again changes nothing.

Each part is hashed with its length, so ("ab", "c") and ("a", "bc") differ, and so do an absent part and an empty one.
Ids have 96 bits. Among 10^9 nodes, the probability of a collision is about 10^-11.
"""

from __future__ import annotations

import hashlib

from memstore.text.identity import normalised_query
from memstore.types import AnswerId, QueryId, RolloutId

_BYTES = 12
"""Length of a digest, in bytes."""


def _digest(*parts: str | int | None) -> str:
    encoded = [b"n" if part is None else _with_length(str(part).encode("utf-8")) for part in parts]
    return hashlib.blake2b(b"".join(encoded), digest_size=_BYTES).hexdigest()


def _with_length(data: bytes) -> bytes:
    return b"%d:%b" % (len(data), data)


def query_id(text: str) -> QueryId:
    """Id of a query: a hash of its normalised text (see `memstore.text.identity`).

    Keys, datasets and splits are aliases and not part of it. The domain is no part of it either: a row may name one or
    leave it to be inferred, and inference may know a gold answer or not, yet these rows ask the same question.
    """
    return QueryId("q-" + _digest(normalised_query(text)))


def query_id_of_schema_1(dataset: str | None, key: str | None, text: str) -> str:
    """Id of a query in a memory of schema 1, in which each dataset and key made a query of its own."""
    return "q-" + _digest(dataset, key, text)


def carried_over(query: QueryId, rollout: str) -> RolloutId:
    """Id of a rollout of an older schema whose row cannot be told from its id."""
    return RolloutId("t-" + _digest(query, rollout))


def dataset_id(name: str) -> str:
    """Id of the dataset `name`."""
    return "d-" + _digest(name)


def rollout_id(
    query: str,
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


def answer_id(query: str, value: str) -> AnswerId:
    """Id of the answer that the rollouts of `query` with the canonical value `value` share."""
    return AnswerId("a-" + _digest(query, value))


def run_id(name: str) -> str:
    """Id of the run `name`."""
    return "r-" + _digest(name)


def policy_id(name: str, step: int | None) -> str:
    """Id of the policy `name` at a training step; None where no step is known."""
    return "p-" + _digest(name, step)


def vector_key(text: str) -> str:
    """Content hash that the vector of `text` is cached under, 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()
