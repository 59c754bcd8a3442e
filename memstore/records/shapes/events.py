"""agent-lightning 1.0: the events of rollouts, as its server returns them and as its hooks get them.

An event has a type. `model_request` is a call of the model with the messages before it, so that the last one holds the
whole conversation. `reward` is a number for the rollout. All other types are the user's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memstore.errors import RecordError
from memstore.records.shapes.shape import Found, RowValues, Shape, at, rollout


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
    """An event by itself. Which rollout a reward belongs to is known only beside the other events."""
    kind = values["event_type"]
    if kind == "reward":
        raise RecordError(
            "the row is the reward of a rollout whose other events are other rows; write one row for each rollout, "
            "{rollout_id, events: [...]}"
        )
    if kind != "model_request":
        raise RecordError(f"the event {kind!r:.40} is no call of a model")
    if not _succeeded(values["data"]):
        raise RecordError("the call of the model failed")
    yield _call(values["data"], values["data"])


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


EVENT_SHAPES = (
    Shape(
        "agent-lightning rollout",
        frozenset(["rollout_id", "events"]),
        _completed,
        frozenset(["step", "data_id", "error_message", "final_reward", "triplets", "triplet_events", "input"]),
        _is_completed,
    ),
    Shape("agent-lightning event", frozenset(["event_type", "rollout_id", "attempt_id", "timestamp", "data"]), _event),
)
"""Shapes of agent-lightning from 1.0 on."""
