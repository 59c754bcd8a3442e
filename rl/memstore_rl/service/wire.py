"""Request and response documents of the service: JSON, validated once at the edge.

    POST /v1/score     ScoreRequest -> ScoreResponse
    any error          {"error": one sentence}

The documents mirror `memstore_rl.rewards.reward` and add limits and a `record` flag. Unknown keys are rejected: a
misspelt `gold` would otherwise turn a labelled query into an unlabelled one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from memstore.errors import InputError
from memstore.types import Domain
from memstore_rl.rewards.reward import Group, Mode, Reward, RewardQuery, Rollout

MAX_TEXT = 1_000_000
"""Characters of a text at most."""
MAX_ROLLOUTS = 4_096
"""Rollouts of a group at most."""
MAX_GROUPS = 1_024
"""Groups of a request at most."""
MAX_BODY = 64 * 2**20
"""Maximum size of a request, in bytes."""

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class QueryIn(_Document):
    """A query; see `memstore_rl.rewards.reward.RewardQuery`."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT, pattern=r"\S")]
    dataset: Name | None = None
    key: Name | None = None
    domain: Domain | None = None
    gold: Text | None = None
    remember: bool = True
    audit: bool = False

    def to_query(self) -> RewardQuery:
        """Convert to a `RewardQuery`."""
        return RewardQuery(self.text, self.dataset, self.key, self.domain, self.gold, self.remember, self.audit)


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
    def _has_a_response(self) -> RolloutIn:
        if self.response is None and self.answer is None:
            raise ValueError("a rollout needs a response, or an answer")
        return self

    def to_rollout(self) -> Rollout:
        """Convert to a `Rollout`."""
        return Rollout(**dict(self))


class GroupIn(_Document):
    """The rollouts that one policy sampled for a query."""

    query: QueryIn
    rollouts: Annotated[tuple[RolloutIn, ...], Field(min_length=1, max_length=MAX_ROLLOUTS)]
    expected: Annotated[int, Field(ge=1, le=MAX_ROLLOUTS, strict=True)] | None = None
    mode: Mode | None = None
    record: bool = True
    """Write the group to the memory after scoring; set it to false for validation groups."""

    def to_group(self) -> Group:
        """Convert to a `Group`."""
        return Group(
            self.query.to_query(), [rollout.to_rollout() for rollout in self.rollouts], self.expected, self.mode
        )


class ScoreRequest(_Document):
    """Groups to score together."""

    groups: Annotated[tuple[GroupIn, ...], Field(min_length=1, max_length=MAX_GROUPS)]


@dataclass(frozen=True, slots=True)
class ScoreResponse:
    """Rewards of each group, in request order. All recorded rollouts are in the journal when it is sent."""

    rewards: Sequence[Sequence[Reward]]
    recorded: int
    """Number of rollouts of this request that are newly recorded."""


def check_token(token: str) -> None:
    """Check that a token can be sent in a header.

    Raises:
        InputError: it is empty, or holds white space or a character that is not ASCII.
    """
    if not token.strip():
        raise InputError("the token is empty; create one, for example with: openssl rand -hex 32")
    if not all("!" <= character <= "~" for character in token):
        raise InputError(
            "the token holds white space or a character that is not ASCII and cannot be sent in a header; create "
            "another one, for example with: openssl rand -hex 32"
        )


_RESPONSE = TypeAdapter(ScoreResponse)


def to_json(response: ScoreResponse) -> bytes:
    """Serialize a response."""
    return _RESPONSE.dump_json(response)


def from_json(body: bytes) -> ScoreResponse:
    """Parse a response.

    Raises:
        ValueError: the body is not a response.
    """
    return _RESPONSE.validate_json(body)


def request_json(groups: Sequence[Group], *, record: bool) -> bytes:
    """Serialize a request for these groups.

    Raises:
        ValidationError: a group exceeds a limit.
    """
    document = {"groups": [_group_document(group, record) for group in groups]}
    return ScoreRequest.model_validate(document).model_dump_json(exclude_none=True).encode()


def _group_document(group: Group, record: bool) -> dict[str, object]:
    return {
        "query": {name: getattr(group.query, name) for name in _QUERY_FIELDS},
        "rollouts": [{name: getattr(rollout, name) for name in _ROLLOUT_FIELDS} for rollout in group.rollouts],
        "expected": group.expected,
        "mode": group.mode,
        "record": record,
    }


_QUERY_FIELDS, _ROLLOUT_FIELDS = tuple(QueryIn.model_fields), tuple(Rollout.__dataclass_fields__)
_MESSAGES = {
    "too_short": "is empty; send at least one",
    "string_too_short": "is empty; omit it, or give a value",
    "string_pattern_mismatch": "is blank; give a text",
    "extra_forbidden": "is not a key of this document; see GET /openapi.json",
    "missing": "is missing",
}
"""Messages for pydantic error types whose own message does not fit."""


def sentence(error: ValidationError) -> str:
    """Describe the first validation error in one sentence, without quoting the content."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    # A list with invalid items is also reported as too short, because pydantic drops them.
    enclosing = {one["loc"][:depth] for one in found for depth in range(len(one["loc"]))}
    first, *rest = [one for one in found if one["loc"] not in enclosing]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    more = f" (and {len(rest)} more)" if rest else ""
    message = _MESSAGES.get(first["type"])
    text = f"{where} {message}{more}" if message else f"{where}: {first['msg'].removeprefix('Value error, ')}{more}"
    # Keys come from the client and may hold line breaks or lone surrogates.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
