"""Parsing responses in and near the OpenAI format; the rate limit."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore_rl.rollout.openai_format import MAX_MESSAGE_CHARS, MalformedResponse, error_message, parse_response
from memstore_rl.rollout.rate_limit import RateLimiter


def answer(*choices: Any, **more: Any) -> bytes:
    return json.dumps({"choices": list(choices), **more}).encode()


def choice_of(content: Any, index: Any = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": content}, **more}


def test_choices_are_ordered_by_index() -> None:
    read = parse_response(answer(choice_of("b", 1), choice_of("a", 0)), 2)
    assert {place: choice.text for place, choice in read.choices.items()} == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    "indices",
    [(0, 0), (None, None), ("0", "1"), (0, 7), (True, False)],
)
def test_choices_with_invalid_indices_keep_their_order(indices: tuple[Any, Any]) -> None:
    read = parse_response(answer(choice_of("a", indices[0]), choice_of("b", indices[1])), 2)
    assert [choice.text for choice in read.choices.values()] == ["a", "b"]
    assert list(read.choices) == [0, 1]


def test_choices_beyond_n_are_ignored() -> None:
    assert list(parse_response(answer(choice_of("a"), choice_of("b", 1), choice_of("c", 2)), 2).choices) == [0, 1]


def test_a_choice_without_text_is_skipped() -> None:
    read = parse_response(answer(choice_of(5), choice_of("b", 1), {"index": 2}, "no choice"), 3)
    assert {place: choice.text for place, choice in read.choices.items()} == {1: "b"}


def test_null_content_is_an_empty_text() -> None:
    choice = {"message": {"content": None, "reasoning": "I think"}, "finish_reason": "length"}
    [read] = parse_response(answer(choice), 1).choices.values()
    assert (read.text, read.reasoning, read.finish_reason) == ("", "I think", "length")


@pytest.mark.parametrize(
    ("logprobs", "mean"),
    [
        ({"content": [{"logprob": -1.0}, {"logprob": -3.0}]}, -2.0),
        ({"token_logprobs": [-1.0, -3.0]}, -2.0),
        ({"token_logprobs": [None, -3.0]}, None),  # a mean over some of the tokens would be misleading
        ({"content": []}, None),
        ({"content": [{"logprob": float("-inf")}]}, None),
        (None, None),
        ("none", None),
    ],
)
def test_mean_logprob_covers_all_tokens_or_is_none(logprobs: Any, mean: float | None) -> None:
    [read] = parse_response(answer(choice_of("a", logprobs=logprobs)), 1).choices.values()
    assert read.mean_logprob == mean


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"choices": {}}',
        b'{"choices": []}',
        b'{"choices": [null]}',
        b"[" * 10_000,
    ],
)
def test_unreadable_content_raises_malformed_response(content: bytes) -> None:
    with pytest.raises(MalformedResponse):
        parse_response(content, 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "text", "index", "logprobs", "usage", "error"]), children
        )
    ),
    max_leaves=30,
)


@settings(deadline=None)
@given(JSON, st.integers(1, 4))
def test_any_json_document_is_parsed_or_raises_malformed_response(document: Any, samples: int) -> None:
    content = json.dumps(document).encode()
    error_message(content)
    try:
        read = parse_response(content, samples)
    except MalformedResponse:
        return
    assert read.choices.keys() <= set(range(samples))
    assert read.choices


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"error": {"message": "no  such\\nmodel"}}', "no such model"),
        (b'{"error": "busy"}', "busy"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b"", "no reason given"),
    ],
)
def test_error_message_is_one_line(content: bytes, words: str) -> None:
    assert error_message(content) == words


def test_long_error_messages_are_cut() -> None:
    assert len(error_message(b"x" * 100_000)) == MAX_MESSAGE_CHARS + 1


def test_rate_limiter_spaces_requests_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 6))

    async def wait_four_times(limiter: RateLimiter) -> None:
        for _ in range(4):
            await limiter.wait()

    # Patch the names in this module only; other threads use `time` and `asyncio`.
    monkeypatch.setattr("memstore_rl.rollout.rate_limit.time", SimpleNamespace(monotonic=lambda: 1000.0))
    monkeypatch.setattr("memstore_rl.rollout.rate_limit.asyncio", SimpleNamespace(sleep=sleep))
    for limiter, expected in ((RateLimiter(10), [0.1, 0.2, 0.3]), (RateLimiter(None), [])):
        waits.clear()
        work = wait_four_times(limiter)
        with pytest.raises(StopIteration):
            work.send(None)
        assert waits == expected
