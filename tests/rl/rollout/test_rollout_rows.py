"""Rows built from replies: the record that ingest reads, the reward, and the sample key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from memstore.records.record import Record, RecordDefaults, parse_record
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.engine import Reply, Sampling
from memstore_rl.rollout.grading import grade
from memstore_rl.rollout.rows import RowBuilder
from memstore_rl.rollout.sample_keys import SampleKeys, sample_seed
from memstore_rl.verifiers import standard_verifiers

QUESTION = Question("What is 2 + 3?", "sums", key="s-1", domain="math", gold="5", split="test", prompt="2 + 3 = ?")
REPLY = Reply(QUESTION, 2, "2 and 3 make 5. The answer is 5.", finish_reason="stop", mean_logprob=-0.5)
BUILDER = RowBuilder("small", Sampling(seed=1), run="first", step=7)


def record_of(reply: Reply, builder: RowBuilder = BUILDER) -> Record:
    return parse_record(row_of(reply, builder), RecordDefaults())


def row_of(reply: Reply, builder: RowBuilder = BUILDER) -> dict[str, Any]:
    return builder.row(reply, *builder.keys().of(reply.question, [reply.sample]))


def test_a_row_parses_to_a_complete_record() -> None:
    record = record_of(REPLY)
    assert (record.query, record.key, record.dataset, record.domain, record.gold) == (
        QUESTION.text, "s-1", "sums", "math", "5",
    )  # fmt: skip
    assert (record.thinking, record.answer) == ("2 and 3 make 5.", "5.")
    assert (record.policy, record.run, record.step, record.sample_index) == ("small", "first", 7, 2)
    assert (record.mean_logprob, record.finish_reason) == (-0.5, "stop")


def test_metadata_holds_the_sampling_parameters() -> None:
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
def test_a_truncated_reply_has_no_answer(text: str, reasoning: str | None, thinking: str) -> None:
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
def test_thinking_comes_from_reasoning_tags_or_splitter(text: str, reasoning: str | None) -> None:
    record = record_of(replace(REPLY, text=text, reasoning=reasoning))
    assert (record.thinking, record.answer) == ("I add.", "5.")


def test_an_empty_reply_is_a_rollout_without_an_answer() -> None:
    record = record_of(replace(REPLY, text=""))
    assert (record.thinking, record.answer) == ("", "")


def test_characters_that_stores_reject_are_replaced() -> None:
    record = record_of(replace(REPLY, text="a\x00b\ud800 The answer is 5.", finish_reason="st\udfffop"))
    assert record.thinking == "a�b�"
    assert record.finish_reason == "st�op"


def test_an_unlabelled_query_has_neither_gold_nor_reward() -> None:
    verifiers = standard_verifiers()
    for labelled, rewards in ((frozenset({QUESTION.id}), [1.0]), (frozenset[str](), [])):
        row = row_of(REPLY, replace(BUILDER, labelled=labelled))
        assert grade([row], verifiers) == rewards
        assert ("gold" in row) == ("reward" in row) == bool(rewards)
        assert row.get("reward_source") == ("ground_truth" if rewards else None)
    verifiers.close()


def test_programs_are_not_graded_by_default() -> None:
    question = replace(QUESTION, domain="code", gold="assert f() == 1")
    row = row_of(replace(REPLY, question=question, text="```python\ndef f(): return 1\n```"))
    verifiers = standard_verifiers()
    assert grade([row], verifiers) == []
    assert "reward" not in row
    assert row["gold"] == "assert f() == 1"
    verifiers.close()


def test_the_key_depends_on_everything_the_sample_was_drawn_with() -> None:
    [key] = SampleKeys("small", Sampling()).of(QUESTION, [0])
    assert [key] == SampleKeys("small", Sampling()).of(QUESTION, [0])
    others = [
        SampleKeys("big", Sampling()).of(QUESTION, [0]),
        SampleKeys("small", Sampling(temperature=0.5)).of(QUESTION, [0]),
        SampleKeys("small", Sampling(seed=1)).of(QUESTION, [0]),
        SampleKeys("small", Sampling(), run="r").of(QUESTION, [0]),
        SampleKeys("small", Sampling(), step=0).of(QUESTION, [0]),
        SampleKeys("small", Sampling()).of(replace(QUESTION, prompt=None), [0]),
        SampleKeys("small", Sampling()).of(replace(QUESTION, system="Be brief."), [0]),
        SampleKeys("small", Sampling()).of(replace(QUESTION, text="What is 2 + 4?"), [0]),
        SampleKeys("small", Sampling()).of(QUESTION, [1]),
    ]
    assert len({key, *(other for [other] in others)}) == len(others) + 1
    # Gold answer, split and domain do not affect how the sample was drawn.
    assert [key] == SampleKeys("small", Sampling()).of(replace(QUESTION, gold=None, split=None, domain="other"), [0])


def test_consecutive_samples_have_consecutive_32_bit_seeds() -> None:
    seeds = [sample_seed(7, QUESTION, sample) for sample in range(8)]
    assert seeds == list(range(seeds[0], seeds[0] + 8))
    assert 0 <= seeds[0] < 2**31
    assert sample_seed(8, QUESTION, 0) != seeds[0] != sample_seed(7, replace(QUESTION, text="What is 2 + 4?"), 0)
