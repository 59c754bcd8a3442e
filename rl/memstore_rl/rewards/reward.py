"""What a trainer asks, and what it gets back.

A `Group` is a query and the rollouts that one policy made of it together; `Reward` is the answer for each rollout.

**Labelled.** A query is labelled if, and only if, the trainer sent a gold answer with it that is not blank. Nothing
else makes it so: a reference answer or a reward that the memory holds for the same query is never looked up for a
query that came without gold, in any mode.

**Modes.** What becomes of a rollout:

    mode      labelled, and its verifier can say   labelled, and it cannot    not labelled
    oracle    ground truth                         unscored                   unscored
    budget    ground truth                         unscored                   unscored
    memory    ground truth                         predicted                  predicted

`oracle` and `budget` differ in what they say of an unlabelled row: under `oracle` it should not be there, under
`budget` it is expected. `memory` is the hybrid.

**No silent number.** `value` is None exactly where `source` is `unscored`, and then `reason` says why. A zero is a
verdict: the verifier found the answer wrong, or the model says so. A rollout in which no answer can be read is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from memstore.types import Domain

Mode: TypeAlias = Literal["oracle", "budget", "memory"]
MODES: tuple[Mode, ...] = get_args(Mode)

Source: TypeAlias = Literal["ground_truth", "predicted", "unscored"]
SOURCES: tuple[Source, ...] = get_args(Source)

_UNREADABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RewardQuery:
    """A query as a trainer sends it. Dataset, key and text together are its identity in the memory."""

    text: str
    """What the user asked, without system prompt and chat template, as in the memory."""
    dataset: str | None = None
    key: str | None = None
    """The source's own key, `query_id` of a record."""
    domain: Domain | None = None
    """None: as the memory has it, else inferred from the text. Send it: a number as answer cannot be guessed."""
    gold: str | None = None
    """The reference answer, or tests. None or blank: the query is not labelled."""

    @property
    def labelled(self) -> bool:
        """May ground truth be used for this query?"""
        return self.gold is not None and bool(self.gold.strip())


@dataclass(frozen=True, slots=True)
class Rollout:
    """One attempt: a response, or thinking and answer apart."""

    response: str | None = None
    thinking: str | None = None
    answer: str | None = None
    """As the rollout wrote it; "" says that there is none. With `response`, this one counts."""
    policy: str | None = None
    run: str | None = None
    step: int | None = None
    sample_index: int | None = None
    """Which of its group; absent: its place in the group."""
    mean_logprob: float | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A query's rollouts, to be scored together."""

    query: RewardQuery
    rollouts: Sequence[Rollout]
    expected: int | None = None
    """How many there should be; None: what the scorer was opened with."""
    mode: Mode | None = None
    """None: the scorer's. A validation group says `oracle`."""


@dataclass(frozen=True, slots=True)
class Reward:
    """What one rollout is worth, and where that comes from. See the module for what is promised."""

    value: float | None
    """What policy optimisation should use; None: there is no reward. Shaped where it is predicted (`shaping`)."""
    source: Source
    probability: float | None
    """That the rollout is right, 0..1, as the model says it; None where no model was asked."""
    group_size: int
    short: bool
    """Were there fewer rollouts than expected?"""
    model: str | None
    """Id of the reward model that was asked."""
    known: bool | None
    """Does the memory hold this query? None where the memory was not asked."""
    latency_s: float
    """Seconds that the call took which this reward came out of."""
    reason: str | None = None
    """Why it is unscored, predicted although the query is labelled, or the same for all of its group. One sentence."""


def readable(text: str) -> str:
    """`text` without what no store takes: NUL and lone surrogates become U+FFFD, as a tokenizer writes them."""
    return _UNREADABLE.sub("\ufffd", text)


def record_values(
    query: RewardQuery, rollout: Rollout, sample_index: int, domain: Domain | None = None
) -> dict[str, Any]:
    """The rollout as a row that `memstore.records.record.parse_record` reads: what is scored and what is stored alike.

    Gold and reward are left out: whoever stores a labelled rollout adds them by name.

    Args:
        sample_index: its place in the group; used where the rollout gives none itself.
        domain: overrides the query's.
    """
    texts = {"response": rollout.response, "thinking": rollout.thinking, "answer": rollout.answer}
    values: dict[str, Any] = {
        "query": readable(query.text),
        "query_id": query.key,
        "dataset": query.dataset,
        "domain": domain or query.domain,
        "policy": rollout.policy,
        "run": rollout.run,
        "step": rollout.step,
        "sample_index": sample_index if rollout.sample_index is None else rollout.sample_index,
        "mean_logprob": rollout.mean_logprob,
        "finish_reason": rollout.finish_reason,
        **{name: readable(text) for name, text in texts.items() if text is not None},
    }
    return {name: value for name, value in values.items() if value is not None}
