"""A reply as a row: a record in memstore's own keys, with how it was drawn in its metadata.

The response stays as the model wrote it, and the one splitter reads it when the row is graded or ingested. A reply that
was cut off (`finish_reason` is `length`) is all thinking: whatever number stands in it, no answer was given, and none
is guessed. An empty reply is a rollout too, without an answer.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from memstore.records.record import TRUNCATED
from memstore.text import unfinished_thinking
from memstore_rl.benchmarks.question import Question
from memstore_rl.rewards.reward import readable
from memstore_rl.rollout.asking import Keys, sample_seed
from memstore_rl.rollout.engine import Reply, Sampling
from memstore_rl.rollout.file import KEY


@dataclass(frozen=True)
class Drawn:
    """What all rows of a run say alike."""

    model: str
    sampling: Sampling
    run: str | None = None
    step: int | None = None
    labelled: Container[str] | None = None
    """Ids of the queries that keep their ground truth; None: all do."""

    def keys(self) -> Keys:
        """The keys of the run's samples."""
        return Keys(self.model, self.sampling, run=self.run, step=self.step)

    def gold(self, question: Question) -> str | None:
        """The question's gold, if it may be used."""
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
    """Was the reply cut off?"""
    return reply.finish_reason == TRUNCATED


def is_empty(reply: Reply) -> bool:
    """Did the model write nothing at all?"""
    return not (reply.text or "").strip() and not (reply.reasoning or "").strip()


def _texts(reply: Reply) -> dict[str, str]:
    text, reasoning = readable(reply.text or ""), readable(reply.reasoning or "")
    if is_truncated(reply):
        parts = (reasoning, unfinished_thinking(text))
        return {"thinking": "\n\n".join(part for part in parts if part.strip()), "answer": ""}
    return {"thinking": reasoning, "response": text} if reasoning.strip() else {"response": text}
