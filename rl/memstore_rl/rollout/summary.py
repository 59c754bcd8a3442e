"""What a run of rollouts did, counted as it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from memstore_rl.rollout.engine import Reply, Usage
from memstore_rl.rollout.ingest_sink import Fed
from memstore_rl.rollout.rows import is_empty, is_truncated

_EXAMPLES = 3
_QUOTED = 60
"""Characters of a question that an example repeats."""


class Prices(NamedTuple):
    """What tokens cost, for a million of them."""

    prompt: float
    completion: float

    def of(self, usage: Usage) -> float:
        """What this usage costs."""
        return (self.prompt * usage.prompt_tokens + self.completion * usage.completion_tokens) / 1e6


@dataclass
class RolloutSummary:
    """What a run did; `as_json` has the keys that the command promises."""

    model: str
    output: Path
    usage: Usage
    queries: int = 0
    held: int = 0
    """Rollouts of these queries that the file held before."""
    rollouts: int = 0
    """New ones."""
    failed: int = 0
    """Samples that could not be had; the next run asks for them again."""
    reasons: list[str] = field(default_factory=list)
    """Why, of the first few."""
    truncated: int = 0
    empty: int = 0
    labelled: int = 0
    """Queries with a ground truth that may be used."""
    graded: int = 0
    rewards: float = 0.0
    """The sum of what was graded."""
    seconds: float = 0.0
    prices: Prices | None = None
    fed: Fed | None = None

    @property
    def tokens_per_second(self) -> float:
        """Tokens that the model wrote, by the run's seconds."""
        return self.usage.completion_tokens / self.seconds if self.seconds else 0.0

    @property
    def mean_reward(self) -> float | None:
        """Of the graded rollouts."""
        return self.rewards / self.graded if self.graded else None

    def kept(self, reply: Reply) -> None:
        """Count a rollout that is in the file."""
        self.rollouts += 1
        self.truncated += is_truncated(reply)
        self.empty += is_empty(reply)

    def lost(self, reply: Reply) -> None:
        """Count a sample that could not be had."""
        self.failed += 1
        if len(self.reasons) < _EXAMPLES:
            name = reply.question.key or " ".join(reply.question.text[: 2 * _QUOTED].split())[:_QUOTED]
            reason = f"{reply.question.dataset} {name!r}: {reply.error}"
            if reason not in self.reasons:
                self.reasons.append(reason)

    def as_json(self) -> dict[str, Any]:
        """The promised document."""
        usage = self.usage
        return {
            "model": self.model,
            "output": str(self.output),
            "queries": self.queries,
            "labelled_queries": self.labelled,
            "rollouts": {"new": self.rollouts, "held": self.held, "failed": self.failed},
            "truncated": self.truncated,
            "empty": self.empty,
            "graded": self.graded,
            "mean_reward": self.mean_reward,
            "requests": usage.requests,
            "retries": usage.retries,
            "tokens": {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens},
            "tokens_per_second": round(self.tokens_per_second, 1),
            "seconds": round(self.seconds, 3),
            "cost": None if self.prices is None else round(self.prices.of(usage), 6),
            "memory": None if self.fed is None else self.fed.as_json(),
            "reasons": self.reasons,
        }
