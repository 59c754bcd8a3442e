"""Replies as rows: what ingest reads of them, and which reward they get."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memstore.records.record import Record, RecordDefaults, parse_record
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.asking import Keys, sample_seed
from memstore_rl.rollout.engine import Reply, Sampling
from memstore_rl.rollout.grading import grade
from memstore_rl.rollout.rows import Drawn
from memstore_rl.verifiers import standard_verifiers

QUESTION = Question("What is 2 + 3?", "sums", key="s-1", domain="math", gold="5", split="test", prompt="2 + 3 = ?")
REPLY = Reply(QUESTION, 2, "2 and 3 make 5. The answer is 5.", finish_reason="stop", mean_logprob=-0.5)
DRAWN = Drawn("small", Sampling(seed=1), run="first", step=7)


def record_of(reply: Reply, drawn: Drawn = DRAWN) -> Record:
    return parse_record(row_of(reply, drawn), RecordDefaults())


def row_of(reply: Reply, drawn: Drawn = DRAWN) -> dict[str, Any]:
    return drawn.row(reply, *drawn.keys().of(reply.question, [reply.sample]))


def test_a_row_is_a_record_with_all_that_is_known() -> None:
    record = record_of(REPLY)
    assert (record.query, record.key, record.dataset, record.domain, record.gold) == (
        QUESTION.text, "s-1", "sums", "math", "5",
    )  # fmt: skip
    assert (record.thinking, record.answer) == ("2 and 3 make 5.", "5.")
    assert (record.policy, record.run, record.step, record.sample_index) == ("small", "first", 7, 2)
    assert (record.mean_logprob, record.finish_reason) == (-0.5, "stop")


def test_how_it_was_drawn_is_in_the_metadata() -> None:
    metadata = row_of(replace(REPLY, completion_tokens=12))["metadata"]
    assert metadata["seed"] == sample_seed(1, QUESTION, 2)
    assert (metadata["temperature"], metadata["max_tokens"], metadata["completion_tokens"]) == (1.0, 1024, 12)
    assert metadata["split"] == "test"
    assert "truncated" not in metadata


@pytest.mark.parametrize(
    ("text", "reasoning", "thinking"),
    [
        ("The answer is 5. No, wait", None, "The answer is 5. No, wait"),
        ("<think>\nThe answer is 5.", None, "The answer is 5."),
        ("", "So \\boxed{5}", "So \\boxed{5}"),
        ("The answer is 5", "I think", "I think\n\nThe answer is 5"),
    ],
)
def test_no_answer_is_taken_from_what_was_cut_off(text: str, reasoning: str | None, thinking: str) -> None:
    reply = replace(REPLY, text=text, reasoning=reasoning, finish_reason="length")
    record, row = record_of(reply), row_of(reply)
    assert (record.thinking, record.answer) == (thinking, "")
    assert row["metadata"]["truncated"] is True
    verifiers = standard_verifiers()
    assert grade([row], verifiers) == [0.0]
    verifiers.close()


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        ("The answer is 5.", "I add."),
        ("<think>I add.</think>\n\nThe answer is 5.", None),
        ("I add.</think>The answer is 5.", None),  # the template opened the tag
        ("I add. The answer is 5.", None),
    ],
)
def test_thinking_comes_from_the_reasoning_the_tags_or_the_splitter(text: str, reasoning: str | None) -> None:
    record = record_of(replace(REPLY, text=text, reasoning=reasoning))
    assert (record.thinking, record.answer) == ("I add.", "5.")


def test_an_empty_reply_is_a_rollout_without_an_answer() -> None:
    record = record_of(replace(REPLY, text=""))
    assert (record.thinking, record.answer) == ("", "")


def test_what_no_store_takes_is_replaced() -> None:
    record = record_of(replace(REPLY, text="a\x00b\ud800 The answer is 5.", finish_reason="st\udfffop"))
    assert record.thinking == "a�b�"
    assert record.finish_reason == "st�op"


def test_without_a_label_there_is_neither_gold_nor_reward() -> None:
    verifiers = standard_verifiers()
    for labelled, rewards in ((frozenset({QUESTION.id}), [1.0]), (frozenset[str](), [])):
        row = row_of(REPLY, replace(DRAWN, labelled=labelled))
        assert grade([row], verifiers) == rewards
        assert ("gold" in row) == ("reward" in row) == bool(rewards)
        assert row.get("reward_source") == ("ground_truth" if rewards else None)
    verifiers.close()


def test_a_program_is_graded_only_where_that_is_switched_on() -> None:
    question = replace(QUESTION, domain="code", gold="assert f() == 1")
    row = row_of(replace(REPLY, question=question, text="```python\ndef f(): return 1\n```"))
    verifiers = standard_verifiers()
    assert grade([row], verifiers) == []
    assert "reward" not in row
    assert row["gold"] == "assert f() == 1"
    verifiers.close()


def test_a_key_is_of_all_that_a_sample_was_drawn_with() -> None:
    [key] = Keys("small", Sampling()).of(QUESTION, [0])
    assert [key] == Keys("small", Sampling()).of(QUESTION, [0])
    others = [
        Keys("big", Sampling()).of(QUESTION, [0]),
        Keys("small", Sampling(temperature=0.5)).of(QUESTION, [0]),
        Keys("small", Sampling(seed=1)).of(QUESTION, [0]),
        Keys("small", Sampling(), run="r").of(QUESTION, [0]),
        Keys("small", Sampling(), step=0).of(QUESTION, [0]),
        Keys("small", Sampling()).of(replace(QUESTION, prompt=None), [0]),
        Keys("small", Sampling()).of(replace(QUESTION, system="Be brief."), [0]),
        Keys("small", Sampling()).of(replace(QUESTION, key="s-2"), [0]),
        Keys("small", Sampling()).of(QUESTION, [1]),
    ]
    assert len({key, *(other for [other] in others)}) == len(others) + 1
    # What is known of a question besides is no part of how it was asked.
    assert [key] == Keys("small", Sampling()).of(replace(QUESTION, gold=None, split=None, domain="other"), [0])


def test_neighbouring_samples_have_neighbouring_seeds_of_32_bits() -> None:
    seeds = [sample_seed(7, QUESTION, sample) for sample in range(8)]
    assert seeds == list(range(seeds[0], seeds[0] + 8))
    assert 0 <= seeds[0] < 2**31
    assert sample_seed(8, QUESTION, 0) != seeds[0] != sample_seed(7, replace(QUESTION, key="s-2"), 0)
