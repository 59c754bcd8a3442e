"""Rewards of fresh rollouts: ground truth where the gold is known and a verifier can say, else none.

The answer that is judged is the one that an ingest of the row would store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memstore.records.record import RecordDefaults, parse_record
from memstore.text import infer_domain
from memstore_rl.verifiers import Verifiers
from memstore_rl.verifiers.protocol import Attempt


def grade(rows: Sequence[dict[str, Any]], verifiers: Verifiers) -> list[float]:
    """Give rows with a gold their reward, in place; return the rewards that were given.

    A row whose verifier cannot say (the gold cannot be read, programs are not run) gets none.
    """
    judged = [row for row in rows if "gold" in row]
    records = [parse_record(row, RecordDefaults()) for row in judged]
    domains = [record.domain or infer_domain(record.query, record.gold) for record in records]
    attempts = [Attempt(record.query, record.gold or "", record.answer) for record in records]
    given = []
    for row, verdict in zip(judged, verifiers.check_all(domains, attempts), strict=True):
        if verdict.reward is not None:
            row |= {"reward": verdict.reward, "reward_source": "ground_truth"}
            given.append(verdict.reward)
    return given
