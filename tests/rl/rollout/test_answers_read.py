"""Answers in OpenAI's form, and in forms near it: what can be read is taken, and nothing else."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore_rl.rollout.retry_policy import LONGEST_HINT_S, Patience, Rate, retry_after_s
from memstore_rl.rollout.wire import LONGEST_REASON, Malformed, read_answer, server_words


def answer(*choices: Any, **more: Any) -> bytes:
    return json.dumps({"choices": list(choices), **more}).encode()


def said(content: Any, index: Any = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": content}, **more}


def test_choices_are_placed_by_their_index() -> None:
    read = read_answer(answer(said("b", 1), said("a", 0)), 2)
    assert {place: choice.text for place, choice in read.choices.items()} == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    "indices",
    [(0, 0), (None, None), ("0", "1"), (0, 7), (True, False)],
)
def test_choices_whose_index_cannot_be_are_placed_by_their_order(indices: tuple[Any, Any]) -> None:
    read = read_answer(answer(said("a", indices[0]), said("b", indices[1])), 2)
    assert [choice.text for choice in read.choices.values()] == ["a", "b"]
    assert list(read.choices) == [0, 1]


def test_more_choices_than_were_asked_for_are_left_out() -> None:
    assert list(read_answer(answer(said("a"), said("b", 1), said("c", 2)), 2).choices) == [0, 1]


def test_a_choice_without_text_is_as_if_it_had_not_come() -> None:
    read = read_answer(answer(said(5), said("b", 1), {"index": 2}, "no choice"), 3)
    assert {place: choice.text for place, choice in read.choices.items()} == {1: "b"}


def test_no_content_is_an_empty_text() -> None:
    choice = {"message": {"content": None, "reasoning": "I think"}, "finish_reason": "length"}
    [read] = read_answer(answer(choice), 1).choices.values()
    assert (read.text, read.reasoning, read.finish_reason) == ("", "I think", "length")


@pytest.mark.parametrize(
    ("logprobs", "mean"),
    [
        ({"content": [{"logprob": -1.0}, {"logprob": -3.0}]}, -2.0),
        ({"token_logprobs": [-1.0, -3.0]}, -2.0),
        ({"token_logprobs": [None, -3.0]}, None),  # a mean over a part would be another thing
        ({"content": []}, None),
        ({"content": [{"logprob": float("-inf")}]}, None),
        (None, None),
        ("none", None),
    ],
)
def test_the_mean_log_probability_is_over_all_tokens_or_none(logprobs: Any, mean: float | None) -> None:
    [read] = read_answer(answer(said("a", logprobs=logprobs)), 1).choices.values()
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
def test_what_cannot_be_read_is_malformed(content: bytes) -> None:
    with pytest.raises(Malformed):
        read_answer(content, 2)


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
def test_any_document_is_read_or_malformed(document: Any, samples: int) -> None:
    content = json.dumps(document).encode()
    server_words(content)
    try:
        read = read_answer(content, samples)
    except Malformed:
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
def test_a_servers_words_are_one_line(content: bytes, words: str) -> None:
    assert server_words(content) == words


def test_long_words_are_cut() -> None:
    assert len(server_words(b"x" * 100_000)) == LONGEST_REASON + 1


def test_a_pause_doubles_up_to_its_limit_and_follows_the_server() -> None:
    patience = Patience(first_pause_s=1, longest_pause_s=5)
    for failed, longest in ((1, 1), (2, 2), (3, 4), (4, 5), (60, 5)):
        assert longest / 2 <= patience.pause_s(failed, None) <= longest
    assert patience.pause_s(1, 30) == 30
    assert patience.pause_s(1, 1e9) == LONGEST_HINT_S


@pytest.mark.parametrize(("header", "seconds"), [(None, None), ("2", 2.0), ("-1", 0.0), ("soon", None), ("", None)])
def test_retry_after_is_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    far = retry_after_s("Fri, 31 Dec 2999 23:59:59 GMT")
    assert far is not None
    assert far > LONGEST_HINT_S


def test_a_rate_spaces_requests_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def slept(seconds: float) -> None:
        waits.append(round(seconds, 6))

    async def turns(rate: Rate) -> None:
        for _ in range(4):
            await rate.turn()

    # The names of this module, not of `time` and `asyncio`: other threads go on.
    monkeypatch.setattr("memstore_rl.rollout.retry_policy.time", SimpleNamespace(monotonic=lambda: 1000.0))
    monkeypatch.setattr("memstore_rl.rollout.retry_policy.asyncio", SimpleNamespace(sleep=slept))
    for rate, wanted in ((Rate(10), [0.1, 0.2, 0.3]), (Rate(None), [])):
        waits.clear()
        work = turns(rate)
        with pytest.raises(StopIteration):
            work.send(None)
        assert waits == wanted
