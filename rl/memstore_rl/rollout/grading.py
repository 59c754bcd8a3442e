"""Grade new rollouts: a verifier compares the answer with the gold answer, where there is one.

The graded answer is the one that an ingest of the row would store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memstore.records.record import RecordDefaults, parse_record
from memstore.text import infer_domain
from memstore_rl.verifiers import Verifiers
from memstore_rl.verifiers.protocol import Attempt


def grade(rows: Sequence[dict[str, Any]], verifiers: Verifiers) -> list[float]:
    """Add a reward to each row that has a gold answer, in place; return the rewards.

    A row gets no reward if its verifier reaches no verdict, for example because the gold answer cannot be parsed or
    programs are not run.
    """
    with_gold = [row for row in rows if "gold" in row]
    records = [parse_record(row, RecordDefaults()) for row in with_gold]
    domains = [record.domain or infer_domain(record.query, record.gold) for record in records]
    attempts = [Attempt(record.query, record.gold or "", record.answer) for record in records]
    rewards = []
    for row, verdict in zip(with_gold, verifiers.check_all(domains, attempts), strict=True):
        if verdict.reward is not None:
            row |= {"reward": verdict.reward, "reward_source": "ground_truth"}
            rewards.append(verdict.reward)
    return rewards
