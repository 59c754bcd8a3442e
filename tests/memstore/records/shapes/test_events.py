"""agent-lightning 1.0's events, in the form of its schemas and of its proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memstore.records.preview import preview
from tests.memstore.records.shapes.reading import MATH, reasons, records, write

USER = {"role": "user", "content": "How many?"}
LOOK = {"role": "assistant", "content": "Let me look."}
TOOL = {"role": "tool", "content": "12 apples", "tool_call_id": "c"}


def event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"event_type": kind, "rollout_id": "ro-1", "attempt_id": "0", "timestamp": 1.5, "data": data}


def call(messages: list[dict[str, Any]], text: str, status: str = "ok") -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}, "token_ids": [1]}
    response = {"choices": [choice], "prompt_token_ids": [1]} if status == "ok" else {"error": "no server"}
    data = {"model": "qwen", "model_version": 3, "request": {"model": "qwen", "messages": messages}}
    further = {"response": response, "http_status": 200, "status": status, "retry_count": 0, "usage": None}
    return event("model_request", {**data, **further})


def reward(value: float) -> dict[str, Any]:
    return event("reward", {"value": value, "message": None, "source": "agent", "reason": None})


def completed(*events: dict[str, Any], **further: Any) -> dict[str, Any]:
    row = {"rollout_id": "ro-1", "data_id": "d7", "step": 5, "sample_idx_in_step": 0, "enqueue_time": 1.0}
    state = {"triplets": [], "triplet_events": [], "rollout_state": "succeeded", "metadata": {"batch_idx": 0}}
    return {**row, **state, "input": {"q": "How many?"}, "events": list(events), **further}


def test_a_rollout_is_its_last_call_with_the_last_reward(tmp_path: Path) -> None:
    calls = [call([USER], "Let me look."), call([USER, LOOK, TOOL], "4 * 3\n#### 12"), call([USER], "", "error")]
    path = write(tmp_path / "a.jsonl", [completed(*calls, event("log", {"text": "x"}), reward(0.5), reward(1.0))])
    (found,) = records(path)
    assert (found.query, found.answer, found.reward) == ("How many?", "12", 1.0)
    assert found.thinking == "Let me look.\n4 * 3"
    assert (found.policy, found.step, found.key, found.finish_reason) == ("qwen", 5, "d7", "stop")
    (shown,) = preview([path], MATH)
    assert (dict(shown.shapes), shown.rejected) == ({"agent-lightning rollout": 1}, 0)


def test_rollouts_without_a_reward_or_a_call(tmp_path: Path) -> None:
    bare = {"rollout_id": "ro-2", "events": [call([USER], "#### 12")]}
    (found,) = records(write(tmp_path / "a.jsonl", [bare]))
    assert (found.reward, found.step, found.answer) == (None, 3, "12")
    failed = completed(call([USER], "", "error"), reward(0.0), error_message="timeout")
    assert reasons(write(tmp_path / "b.jsonl", [failed])) == [
        "the rollout has no call of a model that succeeded (timeout)"
    ]
