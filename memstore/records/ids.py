"""Ids are hashes of content and key, so that a second ingest of the same rollouts changes nothing.

A part is hashed with its length before it: ("ab", "c") and ("a", "bc") differ, and so do an absent part and an
empty one. 96 bits: among a thousand million nodes a collision has a chance of about 1 in 10^11.
"""

from __future__ import annotations

import hashlib

from memstore.types import AnswerId, QueryId, RolloutId

_BYTES = 12


def _digest(*parts: str | int | None) -> str:
    encoded = [b"n" if part is None else _with_length(str(part).encode("utf-8")) for part in parts]
    return hashlib.blake2b(b"".join(encoded), digest_size=_BYTES).hexdigest()


def _with_length(data: bytes) -> bytes:
    return b"%d:%b" % (len(data), data)


def query_id(dataset: str, key: str | None, text: str) -> QueryId:
    """Id of a query. `key` is the source's own key, None where the source gave none.

    The text is part of it: two prompts for one key of a benchmark are two queries.
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
    """Id of a rollout, from what its row says and nothing else.

    Args:
        run: the run the row or the command named; None where it was only taken from the file's name, so that
            renaming or re-cutting a file adds nothing.
        sample_index: as the row gives it, None where it gives none.
        occurrence: 0, or the number of rows before it in the same input that are alike in all of the above and
            in their texts, where no `sample_index` tells them apart.
    """
    return RolloutId("t-" + _digest(query, policy, run, step, sample_index, occurrence, thinking, answer))


def answer_id(query: QueryId, value: str) -> AnswerId:
    """Id of the answer that all rollouts of `query` share whose canonical value is `value`."""
    return AnswerId("a-" + _digest(query, value))


def run_id(name: str) -> str:
    """Id of a run by its name."""
    return "r-" + _digest(name)


def vector_key(text: str) -> str:
    """Content hash under which the vector of `text` is cached: 32 hexadecimal digits; equal texts share it."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()
