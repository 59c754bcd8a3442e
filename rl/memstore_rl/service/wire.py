"""What goes over the wire: JSON documents, validated once, at the edge.

    POST /v1/score     ScoreRequest -> ScoreResponse
    any error          {"error": one sentence}

The shapes are those of `memstore_rl.rewards.reward`; what is added are limits, and whether a group is to be remembered.
Unknown keys are refused: a misspelt `gold` would be a query without a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from memstore.errors import InputError
from memstore.types import Domain
from memstore_rl.rewards.reward import Group, Mode, Query, Reward, Rollout

MAX_TEXT = 1_000_000
MAX_ROLLOUTS = 4_096
MAX_GROUPS = 1_024
MAX_BODY = 64 * 2**20
"""Bytes of a request."""

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class QueryIn(_Document):
    """A query; see `memstore_rl.rewards.reward.Query`."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=r"\S")]
    dataset: Name | None = None
    key: Name | None = None
    domain: Domain | None = None
    gold: Text | None = None

    def own(self) -> Query:
        """As the rest of memstore knows it."""
        return Query(self.text, self.dataset, self.key, self.domain, self.gold)


class RolloutIn(_Document):
    """One attempt; see `memstore_rl.rewards.reward.Rollout`."""

    response: Text | None = None
    thinking: Text | None = None
    answer: Text | None = None
    policy: Name | None = None
    run: Name | None = None
    step: Int64 | None = None
    sample_index: Annotated[int, Field(ge=0, lt=2**63, strict=True)] | None = None
    mean_logprob: float | None = None
    finish_reason: Name | None = None

    @model_validator(mode="after")
    def _says_something(self) -> RolloutIn:
        if self.response is None and self.answer is None:
            raise ValueError("a rollout needs a response, or an answer")
        return self

    def own(self) -> Rollout:
        """As the rest of memstore knows it."""
        return Rollout(**dict(self))


class GroupIn(_Document):
    """The rollouts of a query that one policy made together."""

    query: QueryIn
    rollouts: Annotated[tuple[RolloutIn, ...], Field(min_length=1, max_length=MAX_ROLLOUTS)]
    expected: Annotated[int, Field(ge=1, le=MAX_ROLLOUTS, strict=True)] | None = None
    mode: Mode | None = None
    record: bool = True
    """Write it to the memory once it is scored. A group of a validation set says false."""

    def own(self) -> Group:
        """As the rest of memstore knows it."""
        return Group(self.query.own(), [rollout.own() for rollout in self.rollouts], self.expected, self.mode)


class ScoreRequest(_Document):
    """Groups to be scored together."""

    groups: Annotated[tuple[GroupIn, ...], Field(min_length=1, max_length=MAX_GROUPS)]


@dataclass(frozen=True, slots=True)
class ScoreResponse:
    """Rewards of each group, in the order asked; all of them are safe in the journal, or the answer is an error."""

    rewards: Sequence[Sequence[Reward]]
    recorded: int
    """How many rollouts of this request are remembered anew."""


def check_token(token: str) -> None:
    """Refuse a token that no header can carry.

    Raises:
        InputError: it is empty, or holds a blank or a character that is not ASCII.
    """
    if not token.strip():
        raise InputError("the token is empty; give one of some length, for instance from: openssl rand -hex 32")
    if not all("!" <= sign <= "~" for sign in token):
        raise InputError(
            "the token holds a blank or a character that is not ASCII, and no header can carry it; make another one, "
            "for instance with: openssl rand -hex 32"
        )


_RESPONSE = TypeAdapter(ScoreResponse)


def to_json(response: ScoreResponse) -> bytes:
    """The document of a response."""
    return _RESPONSE.dump_json(response)


def from_json(body: bytes) -> ScoreResponse:
    """A response read back.

    Raises:
        ValueError: it is none.
    """
    return _RESPONSE.validate_json(body)


def request_json(groups: Sequence[Group], *, record: bool) -> bytes:
    """The document that asks for these groups.

    Raises:
        ValidationError: a group breaks a limit.
    """
    document = {"groups": [_wired(group, record) for group in groups]}
    return ScoreRequest.model_validate(document).model_dump_json(exclude_none=True).encode()


def _wired(group: Group, record: bool) -> dict[str, object]:
    return {
        "query": {name: getattr(group.query, name) for name in _QUERY},
        "rollouts": [{name: getattr(rollout, name) for name in _ROLLOUT} for rollout in group.rollouts],
        "expected": group.expected,
        "mode": group.mode,
        "record": record,
    }


_QUERY, _ROLLOUT = tuple(QueryIn.model_fields), tuple(Rollout.__dataclass_fields__)
_SAID = {
    "too_short": "is empty; send at least one",
    "string_too_short": "is empty; leave it out, or say something",
    "string_pattern_mismatch": "is blank; it must say something",
    "extra_forbidden": "is no key of this document; see GET /openapi.json for those there are",
    "missing": "is missing",
}
"""What is said of a mistake, where pydantic's words would be its own."""


def sentence(error: ValidationError) -> str:
    """What is wrong with a document, in one sentence, without repeating its content."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    # A list whose items are wrong is also said to be too short: it ends where they were.
    around = {one["loc"][:depth] for one in found for depth in range(len(one["loc"]))}
    first, *rest = [one for one in found if one["loc"] not in around]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(rest)} more)" if rest else ""
    said = _SAID.get(first["type"])
    text = f"{where} {said}{more}" if said else f"{where}: {first['msg'].removeprefix('Value error, ')}{more}"
    # A document names its keys as it likes, with line breaks and half characters, too.
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
