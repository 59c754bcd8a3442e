"""Events and spans of agent-lightning, one a row, are joined to rollouts with their rewards, in any order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore.records import event_join
from memstore.records.event_join import JoinCounts
from memstore.records.preview import preview
from memstore.records.record import Row
from tests.memstore.records.shapes.reading import MATH, records, seen, write

USER = {"role": "user", "content": "How many?"}
LOOK = {"role": "assistant", "content": "Let me look."}
TOOL = {"role": "tool", "content": "12 apples", "tool_call_id": "c"}
Values = dict[str, Any]


def event(kind: str, time: float, data: Values, rollout: str, attempt: str = "0") -> Values:
    return {"event_type": kind, "rollout_id": rollout, "attempt_id": attempt, "timestamp": time, "data": data}


def call(text: str, time: float, rollout: str, *before: Values, status: str = "ok", attempt: str = "0") -> Values:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    response: Values = {"choices": [choice]} if status == "ok" else {"error": "no server"}
    data = {"model": "qwen", "model_version": 3, "request": {"messages": [USER, *before]}, "status": status}
    return event("model_request", time, {**data, "response": response}, rollout, attempt)


def reward(value: float, time: float, rollout: str, attempt: str = "0") -> Values:
    return event("reward", time, {"value": value, "source": "agent"}, rollout, attempt)


ROWS = [
    call("Let me look.", 1.0, "a"),
    call("", 1.5, "a", LOOK, status="error"),
    call("4 * 3\n#### 12", 2.0, "a", LOOK, TOOL),
    reward(0.25, 2.5, "a"),
    event("log", 2.6, {"text": "x"}, "a"),
    reward(1.0, 3.0, "a"),
    call("#### 7", 1.0, "b"),
    reward(0.0, 2.0, "b"),
    call("#### 8", 1.0, "c", attempt="0"),
    call("#### 9", 2.0, "c", attempt="1"),
    reward(0.0, 3.0, "c", attempt="1"),
]
"""Three rollouts, of which one was tried twice."""
COUNTS = JoinCounts(events=9, rollouts=4, rewarded=3, without_call=0, others=2)
FOUND = {
    ("Let me look.\n4 * 3", "12", 1.0),
    ("", "7", 0.0),
    ("", "8", None),
    ("", "9", 0.0),
}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_rows_does_not_matter(tmp_path: Path, seed: int) -> None:
    rows = list(ROWS)
    if seed:
        random.Random(seed).shuffle(rows)
    path = write(tmp_path / "events.jsonl", rows)
    found = records(path)
    assert {(item.thinking, item.answer, item.reward) for item in found} == FOUND
    assert {(item.query, item.policy, item.step, item.finish_reason) for item in found} == {
        ("How many?", "qwen", 3, "stop")
    }
    (shown,) = preview([path], MATH)
    assert (shown.joined, shown.rejected) == (COUNTS, 0)
    assert dict(shown.shapes) == {"agent-lightning rollout": 4}


def test_rollouts_keep_the_order_of_their_first_rows(tmp_path: Path) -> None:
    rows = [*[reward(1.0, 9.0, f"r{n}") for n in (2, 0, 1)], *[call(f"#### {n}", 1.0, f"r{n}") for n in range(3)]]
    assert [item.answer for item in records(write(tmp_path / "a.jsonl", rows))] == ["2", "0", "1"]


def test_what_has_no_call_is_rejected_with_its_reward(tmp_path: Path) -> None:
    rows = [
        reward(1.0, 1.0, "x"),
        call("", 1.0, "y", status="error"),
        event("log", 1.0, {}, "z"),
        call("#### 1", 1, "a"),
    ]
    path = write(tmp_path / "a.jsonl", rows)
    (shown,) = preview([path], MATH)
    assert (shown.rollouts, shown.rejected, shown.joined) == (1, 3, JoinCounts(2, 1, 0, 3, 2))
    assert shown.reasons == [
        "1: the rollout 'x' has a reward and no call of a model that succeeded; write all events of a rollout into one "
        "file",
        "2: the rollout 'y' has no call of a model that succeeded; write all events of a rollout into one file",
        "3: the rollout 'z' has no call of a model that succeeded; write all events of a rollout into one file",
    ]
    rejected = next(row for row in event_join.join_events([Row(1, rows[0])], "a"))
    assert rejected.raw["event"]["data"]["value"] == 1.0


def test_spans_before_1_0(tmp_path: Path) -> None:
    def span(rollout: str, number: int, **attributes: Any) -> Values:
        ids = {"rollout_id": rollout, "attempt_id": "at", "sequence_id": number, "name": "n"}
        return {**ids, "attributes": attributes}

    def said(text: str, *before: Values) -> Values:
        given = {
            "gen_ai.response.model": "m",
            "gen_ai.completion.0.role": "assistant",
            "gen_ai.completion.0.content": text,
        }
        for at, message in enumerate((USER, *before)):
            given |= {f"gen_ai.prompt.{at}.role": message["role"], f"gen_ai.prompt.{at}.content": message["content"]}
        return given

    rewards = {"agentlightning.reward.0.name": "right", "agentlightning.reward.0.value": 1.0}
    rows = [
        span("a", 10, **rewards, **{"agentlightning.reward.1.value": 0.3}),
        span("a", 9, **said("4 * 3\n#### 12", LOOK, TOOL)),
        span("a", 2, **said("Let me look.")),
        span("a", 3, **{"tool.name": "look"}),
        span("b", 1, **said("#### 7")),
        span("b", 2, reward=0.0),
    ]
    path = write(tmp_path / "spans.jsonl", rows)
    found = records(path)
    assert seen(found) == [
        ("How many?", "Let me look.\n4 * 3", "12", None, 1.0), ("How many?", "", "7", None, 0.0)
    ]  # fmt: skip
    assert {item.policy for item in found} == {"m"}
    assert preview([path], MATH)[0].joined == JoinCounts(5, 2, 2, 0, 1)


def test_other_rows_of_the_file_are_read_at_once(tmp_path: Path) -> None:
    own = {"query": "2 + 3?", "answer": "5", "thinking": "", "reward": 1.0}
    rows = event_join.join_events([Row(1, ROWS[0]), Row(2, own), Row(3, None, "broken")], "a")
    assert next(rows) == Row(2, own)
    assert next(rows) == Row(3, None, "broken")
    assert [row.number for row in rows] == [1]
    (shown,) = preview([write(tmp_path / "a.jsonl", [own])])
    assert shown.joined is None


@pytest.mark.parametrize(
    "broken",
    [
        {"data": None},
        {"data": "x"},
        {"attempt_id": None},
        {"rollout_id": "\ud800"},
        {"timestamp": 10**400},
        {"timestamp": float("nan")},
        {"timestamp": "noon"},
        {"event_type": ["x"]},
        {"attributes": {"gen_ai.prompt.\u00b2.content": "x", f"gen_ai.prompt.{'1' * 5000}.content": "x"}},
    ],
)
def test_malformed_events_are_rejected_or_read(tmp_path: Path, broken: Values) -> None:
    path = write(tmp_path / "a.jsonl", [{**ROWS[0], **broken}, *ROWS[6:8]])
    (shown,) = preview([path], MATH)
    assert shown.error is None
    assert shown.rollouts + shown.rejected == 2


def test_a_long_rollout_holds_three_events(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    close = event_join._Join.close

    def counted(self: event_join._Join) -> None:
        kept.append(self._database.execute("SELECT count(*) FROM part").fetchone()[0])
        close(self)

    monkeypatch.setattr(event_join._Join, "close", counted)
    rows = [Row(n, row) for n in range(500) for row in (call(f"#### {n}", n, "a"), reward(0.5, n, "a"))]
    (joined,) = event_join.join_events(rows, "a")
    assert kept == [3]
    assert joined.values is not None
    first, last, _ = joined.values["events"]
    assert (first["timestamp"], last["timestamp"]) == (0, 499)


def test_a_full_disk_is_an_error_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(event_join._Join):
        def __init__(self) -> None:
            super().__init__()
            self._database.execute("PRAGMA max_page_count = 10")

    monkeypatch.setattr(event_join, "_Join", Small)
    rows = [Row(number, call("x" * 1_000, 1.0, str(number))) for number in range(100)]
    with pytest.raises(InputError, match=r"the events of a\.jsonl cannot be joined: .* full; free .*SQLITE_TMPDIR"):
        list(event_join.join_events(rows, "a.jsonl"))


def test_the_dry_run_says_what_is_joined_and_left_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from memstore_cli.preview import show_previews

    path = write(tmp_path / "events.jsonl", [*ROWS, reward(1.0, 1.0, "x")])
    show_previews(preview([path], MATH), as_json=False)
    shown = capsys.readouterr().out
    assert "  joined: 10 events to 4 rollouts, 3 with a reward\n" in shown
    assert (
        "  left over of the events: 1 rollout without a reward, 1 rollout without a call of the model, "
        "2 events of other types\n" in shown
    )
