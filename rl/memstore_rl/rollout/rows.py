"""Turn a reply into a row: a record under memstore's keys, with the sampling parameters in its metadata.

The response is stored as the model wrote it; grading and ingest split it into thinking and answer. A truncated reply
(`finish_reason` is `length`) is all thinking: whatever it contains, the model gave no answer. An empty reply is a
rollout without an answer.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from memstore.records.record import TRUNCATED
from memstore.text import unfinished_thinking
from memstore_rl.benchmarks.question import Question
from memstore_rl.rewards.reward import readable
from memstore_rl.rollout.engine import Reply, Sampling
from memstore_rl.rollout.file import KEY
from memstore_rl.rollout.sample_keys import SampleKeys, sample_seed


@dataclass(frozen=True)
class RowBuilder:
    """Builds the rows of a run from the values that all of them share."""

    model: str
    sampling: Sampling
    run: str | None = None
    step: int | None = None
    labelled: Container[str] | None = None
    """Ids of the queries that keep their ground truth; None: all do."""

    def keys(self) -> SampleKeys:
        """The keys of the run's samples."""
        return SampleKeys(self.model, self.sampling, run=self.run, step=self.step)

    def gold(self, question: Question) -> str | None:
        """The question's gold answer, if the label budget allows it."""
        return question.gold if self.labelled is None or question.id in self.labelled else None

    def row(self, reply: Reply, key: str) -> dict[str, Any]:
        """The row of a reply that has a text."""
        question = reply.question
        values: dict[str, Any] = {
            "query": question.text,
            "query_id": question.key,
            "dataset": question.dataset,
            "domain": question.domain,
            "gold": self.gold(question),
            **_texts(reply),
            "policy": self.model,
            "run": self.run,
            "step": self.step,
            "sample_index": reply.sample,
            "mean_logprob": reply.mean_logprob,
            "finish_reason": None if reply.finish_reason is None else readable(reply.finish_reason),
        }
        values = {name: value for name, value in values.items() if value is not None}
        return values | {"metadata": self._metadata(reply, key)}

    def _metadata(self, reply: Reply, key: str) -> dict[str, Any]:
        sampling = self.sampling
        values: dict[str, Any] = {
            KEY: key,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": None if sampling.seed is None else sample_seed(sampling.seed, reply.question, reply.sample),
            "chat": sampling.chat,
            "split": reply.question.split,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "truncated": True if is_truncated(reply) else None,
        }
        return {name: value for name, value in values.items() if value is not None}


def is_truncated(reply: Reply) -> bool:
    """Whether the reply was cut off at the token limit."""
    return reply.finish_reason == TRUNCATED


def is_empty(reply: Reply) -> bool:
    """Whether the model wrote neither text nor reasoning."""
    return not (reply.text or "").strip() and not (reply.reasoning or "").strip()


def _texts(reply: Reply) -> dict[str, str]:
    text, reasoning = readable(reply.text or ""), readable(reply.reasoning or "")
    if is_truncated(reply):
        parts = (reasoning, unfinished_thinking(text))
        return {"thinking": "\n\n".join(part for part in parts if part.strip()), "answer": ""}
    return {"thinking": reasoning, "response": text} if reasoning.strip() else {"response": text}
