"""Parsing rows of all formats to records, and the reasons for rejecting others."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import RecordError
from memstore.records.record import KNOWN_KEYS, Record, RecordDefaults, parse_record

NONE = RecordDefaults()


def parse(**values: Any) -> Record:
    return parse_record({"query": "How many?", "answer": "18", **values}, NONE)


def reason(**values: Any) -> str:
    with pytest.raises(RecordError) as error:
        parse(**values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_row_with_all_keys() -> None:
    row = {
        "query": "How many?", "thinking": "9 * 2", "answer": "18", "query_id": "gsm8k/1", "dataset": "gsm8k",
        "domain": "math", "gold": "18", "policy": "qwen", "run": "r1", "step": 3, "sample_index": 2, "reward": 1,
        "reward_source": "person", "mean_logprob": -0.5, "finish_reason": "stop", "metadata": {"b": 1}, "a": [1],
    }  # fmt: skip
    assert parse_record(row, NONE) == Record(
        query="How many?", thinking="9 * 2", answer="18", key="gsm8k/1", dataset="gsm8k", split=None,
        domain="math", gold="18",
        policy="qwen", run="r1", step=3, sample_index=2, reward=1.0, reward_source="person", mean_logprob=-0.5,
        finish_reason="stop", metadata='{"a": [1], "b": 1}',
    )  # fmt: skip


def test_a_row_with_only_a_query_and_an_answer() -> None:
    record = parse_record({"query": "How many?", "answer": "18"}, NONE)
    assert (record.dataset, record.policy, record.run, record.domain) == ("default", "unknown", None, None)
    assert (record.reward, record.reward_source, record.metadata, record.thinking) == (None, None, None, "")


def test_defaults_fill_the_fields_that_a_row_leaves_out() -> None:
    defaults = RecordDefaults(dataset="d", domain="qa", policy="p", run="r")
    record = parse_record({"query": "Q", "answer": "A", "policy": "own", "dataset": " "}, defaults)
    assert (record.dataset, record.domain, record.policy, record.run) == ("d", "qa", "own", "r")


@pytest.mark.parametrize(
    ("split", "stored"), [(" Audit", "audit"), ("AUDIT", "audit"), ("audit", "audit"), ("Train", "Train"), (" ", None)]
)
def test_case_and_blanks_of_the_split_audit_do_not_count(split: str, stored: str | None) -> None:
    assert parse(split=split).split == stored


def test_a_response_is_split_if_the_answer_is_absent() -> None:
    row = {"query": "How many?", "gold": "18", "response": "9 * 2 = 18.\nThe answer is 18."}
    record = parse_record(row, NONE)
    assert (record.thinking, record.answer) == ("9 * 2 = 18.", "18.")
    record = parse_record({**row, "thinking": "Hm."}, NONE)
    assert (record.thinking, record.answer) == ("Hm.\n\n9 * 2 = 18.", "18.")
    record = parse_record({**row, "answer": "7"}, NONE)  # the row has a gold answer, so 7 is the rollout's own
    assert (record.thinking, record.answer) == ("", "7")
    assert json.loads(record.metadata or "") == {"response": row["response"]}


def test_a_response_is_split_by_the_given_or_inferred_domain() -> None:
    row = {"query": "def f(x):", "response": "    return x\n\nprint(f(1))\nThe answer is 1."}
    assert parse_record(row, NONE).answer == "    return x\n"
    assert parse_record({**row, "domain": "math"}, NONE).answer == "1."


def test_an_empty_answer_is_valid_but_a_missing_one_is_not() -> None:
    assert parse(answer="").answer == parse(answer=" \n").answer == ""
    assert parse(answer=None, thinking="So").answer == ""
    expected = "answer and response are both missing; the row has the keys query, answer"
    assert reason(answer=None) == reason(answer=math.nan) == expected


def test_numbers_in_text_fields_become_text() -> None:
    assert parse(answer=18).answer == "18"
    assert parse(answer=1.5).answer == "1.5"
    assert parse(answer=True).answer == "True"
    assert parse(answer=Decimal("0.10")).answer == "0.10"
    assert parse(gold=10**79).gold == "1" + "0" * 79
    assert parse(query_id=7).key == "7"
    assert "too many digits" in reason(answer=10**5000)
    assert reason(answer=math.inf) == "answer is inf, which is neither text nor a number"


def test_blank_optional_strings_are_none() -> None:
    record = parse(query_id="", gold=" ", finish_reason="", run="\t")
    assert (record.key, record.gold, record.finish_reason, record.run) == (None, None, None, None)


@pytest.mark.parametrize(
    ("given", "reward"), [(0, 0.0), (1, 1.0), (True, 1.0), (False, 0.0), (0.25, 0.25), ("0.5", 0.5), (None, None)]
)
def test_valid_rewards(given: object, reward: float | None) -> None:
    record = parse(reward=given)
    assert record.reward == reward
    assert record.reward_source == (None if reward is None else "ground_truth")


@pytest.mark.parametrize("given", [1.1, -0.1, math.inf, -1, 2, 10**400, "1.5", "nan", "right", "", "1_0", [], {"a": 1}])
def test_invalid_rewards(given: object) -> None:
    assert reason(reward=given).startswith("reward is ")


def test_a_reward_source_needs_a_reward_and_a_known_name() -> None:
    assert "no reward" in reason(reward_source="person")
    assert "predicted" in reason(reward=1, reward_source="predicted")


@pytest.mark.parametrize(
    ("given", "number"), [(3, 3), (3.0, 3), ("3", 3), (-3, -3), (2**63 - 1, 2**63 - 1), (None, None)]
)
def test_valid_steps(given: object, number: int | None) -> None:
    assert parse(step=given).step == number


@pytest.mark.parametrize("given", [3.5, "x", True, 2**63, -(2**63) - 1, math.inf, [], "1" * 30])
def test_invalid_steps(given: object) -> None:
    assert reason(step=given).startswith("step is ")


def test_a_negative_sample_index_is_invalid() -> None:
    assert parse(sample_index=0).sample_index == 0
    assert reason(sample_index=-1) == "sample_index is -1; it must not be negative"


@pytest.mark.parametrize(
    "name", ["query", "answer", "thinking", "gold", "policy", "run", "dataset", "query_id", "finish_reason"]
)
def test_nul_and_lone_surrogates_are_invalid(name: str) -> None:
    assert reason(**{name: "a\0b"}) == f"{name} contains a NUL character; remove it"
    assert reason(**{name: "aé\0b"}) == f"{name} contains a NUL character; remove it"
    assert reason(**{name: "ab\ud800"}) == f"{name} contains a lone surrogate at character 3; remove it"


def test_nul_and_lone_surrogates_are_invalid_in_responses_and_metadata() -> None:
    with pytest.raises(RecordError, match="response contains a NUL"):
        parse_record({"query": "Q", "response": "\0"}, NONE)
    assert "metadata contains a lone surrogate" in reason(note="\udfff")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"query": None}, "query is missing"),
        ({"query": " \n"}, "query is empty"),
        ({"query": 3}, "query must be text, not a number"),
        ({"query": ["a"]}, "query must be text, not a list"),
        ({"answer": {"a": 1}}, "answer must be text or a number, not an object"),
        ({"thinking": 3}, "thinking must be text, not a number"),
        ({"domain": "physics"}, "domain is 'physics'; it must be one of math, qa, code, other"),
        ({"domain": ["qa"]}, "domain is ['qa']; it must be one of math, qa, code, other"),
        ({"mean_logprob": "low"}, "mean_logprob is 'low', which is not a number"),
        ({"mean_logprob": -math.inf}, "mean_logprob is -inf; it must be a finite number or null"),
    ],
)  # fmt: skip
def test_the_reason_of_an_invalid_row(values: dict[str, Any], expected: str) -> None:
    assert reason(**values) == expected


def test_unknown_keys_are_stored_in_the_metadata() -> None:
    assert parse(extra=1, note=None).metadata == '{"extra": 1}'
    assert parse(metadata='{"a": 1}').metadata == '{"a": 1}'
    assert parse(metadata="tagged").metadata == '{"metadata": "tagged"}'
    assert parse(metadata={"a": 1}, a=2).metadata == '{"a": 2, "metadata": {"a": 1}}'
    assert parse(metadata={"x": math.nan, "y": [math.inf]}).metadata == '{"x": "nan", "y": ["inf"]}'
    assert parse(metadata={"é": "ü"}).metadata == '{"é": "ü"}'
    assert "extra" not in KNOWN_KEYS
    assert "query" in KNOWN_KEYS


def test_a_five_megabyte_answer_is_accepted() -> None:
    assert len(parse(answer="x" * 5_000_000).answer) == 5_000_000


VERL = {
    "input": "system\nBe brief.\nuser\nHow many?\nassistant\n", "output": "9 * 2\n#### 18", "gts": "18", "score": 1.0,
    "step": 7, "acc": True,
}  # fmt: skip


def test_a_verl_dump() -> None:
    record = parse_record(VERL, NONE)
    assert (record.query, record.thinking, record.answer, record.gold) == ("How many?", "9 * 2", "18", "18")
    assert (record.reward, record.reward_source, record.step) == (1.0, "ground_truth", 7)
    assert json.loads(record.metadata or "") == {"acc": True, "system": "Be brief."}


@pytest.mark.parametrize("key", ["source", "src"])
@pytest.mark.parametrize("source", ["predicted", "gnn", "unscored"])
def test_a_predicted_score_is_not_a_ground_truth(key: str, source: str) -> None:
    record = parse_record({**VERL, key: source, "score": 0.7}, NONE)
    assert (record.reward, record.reward_source) == (None, None)
    assert json.loads(record.metadata or "")["score"] == 0.7
    assert json.loads(record.metadata or "")[key] == source
    assert parse_record({**VERL, key: "ground_truth"}, NONE).reward == 1.0


@pytest.mark.parametrize(
    ("gts", "gold"),
    [("18", "18"), (18, "18"), (None, None), ("", None), (["18"], "18"),
     ({"ground_truth": "18", "style": "rule"}, "18"),
     (["1", "2"], '["1", "2"]'), ({"target": ["é"]}, '{"target": ["é"]}')],
)  # fmt: skip
def test_ground_truths_of_a_verl_dump(gts: object, gold: str | None) -> None:
    assert parse_record({**VERL, "gts": gts}, NONE).gold == gold


def test_a_verl_dump_can_have_the_keys_of_a_rollout() -> None:
    record = parse_record({**VERL, "query_id": "q7", "policy": "p", "sample_index": 2, "answer": "extracted"}, NONE)
    assert (record.key, record.policy, record.sample_index, record.answer) == ("q7", "p", 2, "18")
    assert json.loads(record.metadata or "")["answer"] == "extracted"


TRL = {"prompt": "How many?", "completion": "9 * 2\n#### 18", "accuracy": 1.0, "step": "10", "advantage": 0.3}


def test_trl_completions() -> None:
    record = parse_record({**TRL, "domain": "math"}, NONE)
    assert (record.query, record.thinking, record.answer) == ("How many?", "9 * 2", "18")
    assert (record.reward, record.step, record.metadata) == (1.0, 10, '{"advantage": 0.3}')


def test_trl_completions_as_messages() -> None:
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How many?"}]},
    ]
    completion = [{"role": "assistant", "content": "#### 18", "reasoning_content": "9 * 2"}]
    record = parse_record({**TRL, "prompt": prompt, "completion": completion, "domain": "math"}, NONE)
    assert (record.query, record.thinking, record.answer) == ("How many?", "9 * 2", "18")
    assert json.loads(record.metadata or "")["system"] == "Be brief."


def test_the_only_float_column_of_trl_is_the_reward() -> None:
    several = {**TRL, "format": 0.5}
    with pytest.raises(RecordError, match=r"\('accuracy', 'format'\); choose one with --reward-column NAME"):
        parse_record(several, NONE)
    with pytest.raises(RecordError, match="--reward-column"):
        parse_record({**several, "format": None}, NONE)
    record = parse_record(several, RecordDefaults(reward_column="format"))
    assert record.reward == 0.5
    assert json.loads(record.metadata or "") == {"accuracy": 1.0, "advantage": 0.3}
    assert parse_record({**TRL, "accuracy": math.nan}, NONE).reward is None
    assert parse_record({**TRL, "accuracy": 1.0, "src": "predicted"}, NONE).reward is None


def test_a_named_reward_column_applies_to_every_format() -> None:
    named = RecordDefaults(reward_column="mine")
    record = parse_record({"query": "Q", "answer": "A", "reward": 0.0, "mine": 1.0}, named)
    assert (record.reward, record.metadata) == (1.0, '{"reward": 0.0}')
    assert parse_record({**VERL, "mine": 0.5}, named).reward == 0.5
    with pytest.raises(RecordError, match="no key 'mine'"):
        parse_record({"query": "Q", "answer": "A"}, named)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*sorted(KNOWN_KEYS), "source", "src", "advantage", "accuracy", "x", "\ud800"])
RANDOM = st.dictionaries(KEYS, JSON, max_size=8)
BASES = st.sampled_from([{}, {"query": "Q", "answer": "A"}, {"query": "Q", "response": "A: 3"}, VERL, TRL])


@given(BASES, RANDOM, st.sampled_from([NONE, RecordDefaults(reward_column="x", domain="math")]))
@settings(max_examples=500, deadline=None)
def test_a_random_row_becomes_a_record_or_a_record_error(
    base: dict[str, Any], random: dict[str, Any], defaults: RecordDefaults
) -> None:
    try:
        record = parse_record({**base, **random}, defaults)
    except RecordError:
        return
    assert record.query.strip()
    for text in (record.query, record.thinking, record.answer, record.gold, record.key, record.policy, record.metadata):
        if text is not None:
            assert "\0" not in text.encode().decode()
    assert record.reward is None or 0.0 <= record.reward <= 1.0
    assert (record.reward is None) == (record.reward_source is None)
    if record.metadata is not None:
        assert isinstance(json.loads(record.metadata), dict)
