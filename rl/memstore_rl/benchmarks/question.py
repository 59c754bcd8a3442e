"""A question: a query that a policy is to answer, with what is needed to ask it and to judge the answer.

Benchmarks and files of queries are read into questions; `rollout` asks them, and what comes back becomes the records
of a memory. `text` is the query as the memory holds it; how a model is asked (instructions, few-shot examples) is the
prompt, which is not part of the query's identity.
"""

from __future__ import annotations

from dataclasses import dataclass

from memstore.records import ids
from memstore.types import Domain, QueryId


@dataclass(frozen=True, slots=True)
class Question:
    """A query to be answered. `dataset`, `key` and `text` together are its identity in a memory."""

    text: str
    """The query: of a multiple choice with its options, of a program with its signature."""
    dataset: str
    key: str | None = None
    """The source's own key, unique in the dataset; `query_id` of a record."""
    domain: Domain = "other"
    gold: str | None = None
    """The reference answer or tests, as the verifier of the domain reads it; None where nobody knows it."""
    split: str | None = None
    """`train`, `validation` or `test` as it was drawn here; None where nothing was drawn."""
    prompt: str | None = None
    """What the model is sent as the user's turn; None: the text itself."""
    system: str | None = None
    """The system's turn; None: there is none."""

    @property
    def id(self) -> QueryId:
        """Id of its Query in a memory."""
        return ids.query_id(self.dataset, self.key, self.text)
