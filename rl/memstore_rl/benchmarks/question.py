"""A question: a query to put to a policy, with its prompt, gold answer and split.

Benchmarks and files of queries are loaded as questions; `rollout` samples answers to them, which become records of a
memory. `text` is the query as the memory stores it. The prompt adds instructions or few-shot examples and is not part
of the query's identity. A query that a trainer sends for scoring is a `memstore_rl.rewards.reward.RewardQuery`.
"""

from __future__ import annotations

from dataclasses import dataclass

from memstore.records import ids
from memstore.types import Domain, QueryId


@dataclass(frozen=True, slots=True)
class Question:
    """A query to put to a policy. `text` identifies it in a memory; `dataset` and `key` are a name for it."""

    text: str
    """The query; with its options if multiple choice, with the signature if a program."""
    dataset: str
    key: str | None = None
    """The source's key, unique in the dataset; `query_id` of a record."""
    domain: Domain = "other"
    gold: str | None = None
    """Reference answer or tests, in the format of the domain's verifier; None if unknown."""
    split: str | None = None
    """`train`, `validation` or `test`; None if there are no splits."""
    prompt: str | None = None
    """Content of the user message; None: the text."""
    system: str | None = None
    """Content of the system message; None: no system message."""

    @property
    def id(self) -> QueryId:
        """Id of the query in a memory."""
        return ids.query_id(self.text)
