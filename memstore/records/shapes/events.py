"""agent-lightning: the events of rollouts, as its server returns them and as its hooks get them.

An event has a type. `model_request` is a call of the model with the messages before it, so that the last one holds the
whole conversation. `reward` is a number for the rollout. All other types are the user's own. Before 1.0, both are spans
of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from memstore.errors import RecordError
from memstore.records.shapes.shape import Found, RowValues, Shape, at, rollout

Kind = Literal["call", "failed", "reward", "other"]


class Part(NamedTuple):
    """What an event contributes to a rollout."""

    rollout: tuple[str, str]
    """The ids of the rollout and of the attempt."""
    time: float
    """The order among the events of the attempt."""
    kind: Kind
    event: RowValues


_KINDS: dict[str, Kind] = {"call": "call", "failed": "failed", "reward": "reward"}
_END_OF_TIME = 1e15
"""Times and numbers beyond it are not believed."""
_REWARDS = ("agentlightning.reward.0.value", "reward")
"""Attributes of spans with the reward: of several, the first is the primary one. Before 0.3 there was one."""


def _completed(values: RowValues) -> Iterator[Found]:
    """A completed rollout: its last call that succeeded, with the last reward."""
    calls = [event["data"] for event in values["events"] if event["event_type"] == "model_request"]
    calls = [data for data in calls if _succeeded(data)]
    if not calls:
        error = values.get("error_message")
        raise RecordError("the rollout has no call of a model that succeeded" + (f" ({error!s:.200})" if error else ""))
    rewards = [event["data"].get("value") for event in values["events"] if event["event_type"] == "reward"]
    step, data_id = values.get("step"), values.get("data_id")
    yield _call(calls[-1], calls[0], reward=rewards[-1] if rewards else None, step=step, query_id=data_id)


def _event(values: RowValues) -> Iterator[Found]:
    """An event or a span by itself, as in a table; `memstore.records.event_join` joins those of a file."""
    part = part_of(values)
    if part is None or part.kind != "call":
        raise RecordError("the row is no call of a model; write the events of a rollout into one file")
    yield from _completed({"events": [part.event]})


def part_of(values: RowValues) -> Part | None:
    """What a row contributes to a rollout; None if it is neither an event nor a span."""
    event: RowValues
    if SPAN.matches(values):
        event, order = _event_of_span(values["attributes"]), values.get("sequence_id", values.get("start_time"))
    elif EVENT.matches(values) and isinstance(values["data"], Mapping):
        event, order = values, values["timestamp"]
    else:
        return None
    kind = event.get("event_type")
    if kind == "model_request":
        kind = "call" if _succeeded(event["data"]) else "failed"
    rollout, attempt = (_name(values[key]) for key in ("rollout_id", "attempt_id"))
    time = float(order) if isinstance(order, int | float) and abs(order) < _END_OF_TIME else 0.0
    return Part((rollout, attempt), time, _KINDS.get(str(kind), "other"), event)


def _name(value: object) -> str:
    """An id as text that a database takes."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def _event_of_span(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The event of a span of agent-lightning before 1.0, whose attributes have OpenTelemetry's names; {} for others."""
    prompt, completion = (_numbered(attributes, f"gen_ai.{kind}.") for kind in ("prompt", "completion"))
    if prompt and completion:
        choice = {"message": completion[0], "finish_reason": completion[0].pop("finish_reason", None)}
        data = {"request": {"messages": prompt}, "response": {"choices": [choice]}}
        return {"event_type": "model_request", "data": {**data, "model": attributes.get("gen_ai.response.model")}}
    value = next((attributes[key] for key in _REWARDS if attributes.get(key) is not None), None)
    return {} if value is None else {"event_type": "reward", "data": {"value": value}}


def _numbered(attributes: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The messages of attributes such as `gen_ai.prompt.0.content`."""
    messages: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        number, _, key = name.removeprefix(prefix).partition(".")
        if (
            name.startswith(prefix)
            and number.isdecimal()
            and len(number) < 10
            and key in ("role", "content", "finish_reason")
        ):
            messages.setdefault(int(number), {})[key] = value
    return [messages[number] for number in sorted(messages)]


def _succeeded(data: Mapping[str, Any]) -> bool:
    return data.get("status", "ok") == "ok" and bool(at(data, "response", "choices"))


def _call(last: Mapping[str, Any], first: Mapping[str, Any], **further: Any) -> dict[str, Any]:
    """The conversation of the last call. What follows the first call's prompt was written in the rollout."""
    messages, choice = last["request"].get("messages"), last["response"]["choices"][0]
    if messages is None:
        return _rollout(last, last["request"]["prompt"], choice["text"], **further)
    asked = at(first, "request", "messages") or []
    length = len(asked) if messages[: len(asked)] == asked else len(messages)
    return _rollout(last, messages[:length], [*messages[length:], choice["message"]], **further)


def _rollout(data: Mapping[str, Any], prompt: object, completion: object, **further: Any) -> dict[str, Any]:
    version = data.get("model_version")
    finish = at(data, "response", "choices", 0, "finish_reason")
    given = {"step": version, **{key: value for key, value in further.items() if value is not None}}
    return rollout(prompt, completion, policy=data.get("model"), finish_reason=finish, **given)


def _is_completed(values: RowValues) -> bool:
    events = values["events"]
    return isinstance(events, list) and (not events or at(events, 0, "event_type") is not None)


EVENT = Shape(
    "agent-lightning event", frozenset(["event_type", "rollout_id", "attempt_id", "timestamp", "data"]), _event
)
SPAN = Shape(
    "agent-lightning span",
    frozenset(["rollout_id", "attempt_id", "attributes"]),
    _event,
    accepts=lambda values: isinstance(values["attributes"], Mapping),
)
EVENT_SHAPES = (
    Shape(
        "agent-lightning rollout",
        frozenset(["rollout_id", "events"]),
        _completed,
        frozenset(["step", "data_id", "error_message", "final_reward", "triplets", "triplet_events", "input"]),
        _is_completed,
    ),
    EVENT,
    SPAN,
)
"""Shapes of agent-lightning, but for the trajectories that its trainer writes."""
