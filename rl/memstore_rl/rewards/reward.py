"""Input and output of scoring: `Group` (a query with its rollouts) and `Reward` (one per rollout).

**Labelled.** A query is labelled if and only if the trainer sends a gold answer that is not blank. What the memory
holds of a query sent without gold counts in mode `memory` only, and only within the label budget of the reward model:
a verdict on the same answer is `remembered`, unless the query says `remember=False`.

**Modes.** Source of the reward by mode:

    mode      labelled, verifiable    labelled, not verifiable   not labelled
    oracle    ground truth            unscored                   unscored
    budget    ground truth            unscored                   unscored
    memory    ground truth            remembered or predicted    remembered or predicted
    verdict   bought, or remembered, or predicted: see below     remembered or predicted

`oracle` and `budget` differ in the reason given for an unlabelled row: it is an error in the data under `oracle` and
expected under `budget`. `memory` combines both sources. In `verdict` a gold answer only allows the scorer to call a
verifier, and calls have a budget (`memstore_rl.rewards.verdict_mode`): a bought verdict is ground truth in the first
rewards that use it and remembered afterwards. The undecided rollouts of a group are predicted, with one value.

**No silent numbers.** `value` is None if and only if `source` is `unscored`, and then `reason` explains why. A zero is
a verdict: by a verifier, by the memory or by the model. A rollout without a readable answer is wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from memstore.types import Domain

Mode: TypeAlias = Literal["oracle", "budget", "memory", "verdict"]
MODES: tuple[Mode, ...] = get_args(Mode)

Shaping: TypeAlias = Literal["probability", "threshold", "shrunk", "advantage", "residual"]
SHAPINGS: tuple[Shaping, ...] = get_args(Shaping)
"""What a predicted probability becomes (`memstore_rl.rewards.shaping`)."""

Source: TypeAlias = Literal["ground_truth", "remembered", "predicted", "unscored"]
SOURCES: tuple[Source, ...] = get_args(Source)

Pair: TypeAlias = Literal["bought", "asked", "remembered", "open"]

RIGHT = 0.5
"""A verdict above this says that the answer is right (`memstore.graph.verdicts`)."""
_UNREADABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RewardQuery:
    """A query as a trainer sends it. Its text identifies it in the memory; dataset and key are names for it."""

    text: str
    """The user's question, without system prompt and chat template."""
    dataset: str | None = None
    key: str | None = None
    """The source's key: `query_id` of a record."""
    domain: Domain | None = None
    """None: the domain in the memory, else inferred from the text, which cannot show that the answer is a number."""
    gold: str | None = None
    """The gold answer, or tests. None or blank: the query is not labelled."""
    remember: bool = True
    """Whether verdicts of the memory on answers of this query may be used. False: the query's label is withheld, as for
    the unlabelled rows of a label budget."""
    audit: bool = False
    """Whether the query is kept for measuring. Its groups get ground truth whatever the mode, as in `oracle`, and the
    gauge compares it with what the reward model predicts; do not train on them. The service never records them."""

    @property
    def labelled(self) -> bool:
        """Whether ground truth may be used for this query."""
        return self.gold is not None and bool(self.gold.strip())


@dataclass(frozen=True, slots=True)
class Rollout:
    """One attempt: a response, or thinking and answer separately."""

    response: str | None = None
    thinking: str | None = None
    answer: str | None = None
    """The answer as written; "" means there is none. It overrides the answer in `response`."""
    policy: str | None = None
    run: str | None = None
    step: int | None = None
    sample_index: int | None = None
    """Index within the group; None: the position in the group."""
    mean_logprob: float | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one query that one policy sampled together."""

    query: RewardQuery
    rollouts: Sequence[Rollout]
    expected: int | None = None
    """Number of rollouts in the full group; None: the scorer's setting."""
    mode: Mode | None = None
    """None: the scorer's mode. Use `oracle` for validation groups."""


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward of one rollout and its source; see the module's docstring for the guarantees."""

    value: float | None
    """The reward for policy optimisation; None if unscored. A predicted value is shaped (`shaping`)."""
    source: Source
    probability: float | None
    """Probability that the rollout is right, 0..1: predicted, or the remembered verdict; None if neither."""
    group_size: int
    short: bool
    """Whether the group had fewer rollouts than expected."""
    model: str | None
    """Id of the reward model that predicted it; None if none did."""
    known: bool | None
    """Whether the memory holds this query; None if no memory was used."""
    latency_s: float
    """Duration of the scoring call, in seconds."""
    reason: str | None = None
    """Why it is unscored, predicted despite a label, or equal for the whole group; one sentence."""
    judged_by: str | None = None
    """Who judged a remembered answer: `ground_truth`, `person`, or `gold` for a stored reference answer. In mode
    `verdict` it is given for ground truth, too."""
    judged_at: str | None = None
    """When that answer was judged, ISO 8601 in UTC; None if it is not recorded."""
    by_votes: float | None = None
    """Probability that it is right by the votes of its group alone, 0..1; None if it is not predicted."""
    silent: bool = False
    """Whether all rollouts of the group get one reward, because they differ too little or none is decided."""
    pair: Pair | None = None
    """Mode `verdict`, for the first rollout of a call with this query and answer: whether a verdict was `bought`, was
    `asked` for and has not arrived, or the pair was decided without a call (`remembered`) or stays `open`. The number
    of `bought` and `asked` is the number of verifier calls. None for all other rollouts."""
    withheld: bool = False
    """Whether it is unscored because the gauge stopped the predictions (`memstore_rl.rewards.gauge`)."""


class PairCounts(NamedTuple):
    """What mode `verdict` did with the pairs of query and answer of a batch."""

    calls: int
    """Verifier calls."""
    right: int
    wrong: int
    """Verdicts bought, by whether the answer is right; without those that arrived later."""
    remembered: int
    """Pairs that were decided without a call."""
    open: int
    """Pairs without a verdict."""


def pair_counts(rewards: Iterable[Reward]) -> PairCounts | None:
    """Count the pairs of rewards; None if none is of mode `verdict`."""
    counted = [reward for reward in rewards if reward.pair is not None]
    if not counted:
        return None
    of = Counter(reward.pair for reward in counted)
    right = sum(reward.pair == "bought" and (reward.value or 0.0) > RIGHT for reward in counted)
    return PairCounts(
        of["bought"] + of["asked"], right, of["bought"] - right, of["remembered"], of["open"] + of["asked"]
    )


def readable(text: str) -> str:
    """Replace what no store accepts (NUL and lone surrogates) by U+FFFD, as tokenizers do."""
    return _UNREADABLE.sub("\ufffd", text)


def record_values(
    query: RewardQuery, rollout: Rollout, sample_index: int, domain: Domain | None = None
) -> dict[str, Any]:
    """Return a rollout as an input row of `memstore.records.record.parse_record`, for scoring and storing alike.

    Gold and reward are left out; a caller that stores a labelled rollout adds them.

    Args:
        sample_index: the position in the group, used if the rollout has no `sample_index`.
        domain: overrides the query's domain.
    """
    # An `answer` beside a `response` is the gold answer, unless the row has `thinking` too (memstore.records.adapters).
    own = "" if rollout.answer is not None else None
    thinking = own if rollout.thinking is None else rollout.thinking
    texts = {"response": rollout.response, "thinking": thinking, "answer": rollout.answer}
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
