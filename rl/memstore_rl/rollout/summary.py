"""Counts of a rollout run, updated as replies arrive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from memstore_rl.rollout.engine import Reply, Usage
from memstore_rl.rollout.ingest_sink import IngestCounts
from memstore_rl.rollout.rows import is_empty, is_truncated

_MAX_EXAMPLES = 3
_QUOTED_CHARS = 60
"""Characters of a question that an example repeats."""


class Prices(NamedTuple):
    """Prices per million tokens, in any currency."""

    prompt: float
    completion: float

    def cost(self, usage: Usage) -> float:
        """The cost of this usage."""
        return (self.prompt * usage.prompt_tokens + self.completion * usage.completion_tokens) / 1e6


@dataclass
class RolloutSummary:
    """Result of a run; `as_json` has the keys that the command documents."""

    model: str
    output: Path
    usage: Usage
    queries: int = 0
    existing: int = 0
    """Rollouts of these queries that the file already held."""
    rollouts: int = 0
    """New rollouts."""
    failed: int = 0
    """Samples that could not be drawn; the next run requests them again."""
    reasons: list[str] = field(default_factory=list)
    """Reasons of the first few failures."""
    truncated: int = 0
    empty: int = 0
    labelled: int = 0
    """Queries whose ground truth may be used."""
    graded: int = 0
    rewards: float = 0.0
    """Sum of the rewards of the graded rollouts."""
    seconds: float = 0.0
    prices: Prices | None = None
    ingested: IngestCounts | None = None
    """None: nothing was ingested into a memory."""

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second of the run."""
        return self.usage.completion_tokens / self.seconds if self.seconds else 0.0

    @property
    def mean_reward(self) -> float | None:
        """Mean reward of the graded rollouts."""
        return self.rewards / self.graded if self.graded else None

    def add_written(self, reply: Reply) -> None:
        """Count a rollout that was written to the file."""
        self.rollouts += 1
        self.truncated += is_truncated(reply)
        self.empty += is_empty(reply)

    def add_failed(self, reply: Reply) -> None:
        """Count a sample that could not be drawn."""
        self.failed += 1
        if len(self.reasons) < _MAX_EXAMPLES:
            name = reply.question.key or " ".join(reply.question.text[: 2 * _QUOTED_CHARS].split())[:_QUOTED_CHARS]
            reason = f"{reply.question.dataset} {name!r}: {reply.error}"
            if reason not in self.reasons:
                self.reasons.append(reason)

    def as_json(self) -> dict[str, Any]:
        """The JSON document of `memstore rollout --json`."""
        usage = self.usage
        return {
            "model": self.model,
            "output": str(self.output),
            "queries": self.queries,
            "labelled_queries": self.labelled,
            "rollouts": {"new": self.rollouts, "held": self.existing, "failed": self.failed},
            "truncated": self.truncated,
            "empty": self.empty,
            "graded": self.graded,
            "mean_reward": self.mean_reward,
            "requests": usage.requests,
            "retries": usage.retries,
            "tokens": {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens},
            "tokens_per_second": round(self.tokens_per_second, 1),
            "seconds": round(self.seconds, 3),
            "cost": None if self.prices is None else round(self.prices.cost(usage), 6),
            "memory": None if self.ingested is None else self.ingested.as_json(),
            "reasons": self.reasons,
        }
