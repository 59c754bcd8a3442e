"""Rows that other tools write: read with the right gold answer and reward, or refused with a conversion."""

from __future__ import annotations

import math
from typing import Any

import pytest

from memstore.errors import RecordError
from memstore.records.record import Record, RecordDefaults, parse_record

MATH = RecordDefaults(domain="math")
USER = [{"role": "user", "content": "How many?"}]
SAYS_7 = [{"role": "assistant", "content": "\\boxed{7}"}]


def parse(values: dict[str, Any]) -> Record:
    return parse_record(values, MATH)


@pytest.mark.parametrize(
    "values",
    [
        {"query": "How many?", "response": "\\boxed{7}", "answer": "12"},  # Hugging Face data sets
        {"query": "How many?", "response": "\\boxed{7}", "answer": 12},  # the same, as a number
        {"query": "How many?", "response": "\\boxed{7}", "answer": "3 * 4 = 12\n#### 12"},  # GSM8K's own solutions
        {"prompt": "How many?", "response": "\\boxed{7}", "answer": "12"},
        {"question": "How many?", "response": "\\boxed{7}", "answer": "12"},
        {"problem": "How many?", "response": "\\boxed{7}", "answer": "12", "prompt": None},
        {"prompt": "How many?", "completion": "\\boxed{7}", "answer": "12"},  # TRL
        {"prompt": USER, "completion": SAYS_7, "answer": "12", "info": {}, "total_ms": 3.5},  # verifiers
        {"prompt": USER, "completion": SAYS_7, "answer": ["12"]},
        {"prompt": USER, "completion": SAYS_7, "answer": "13", "gold": "12"},  # an explicit gold answer comes first
        {"messages": [*USER, *SAYS_7], "answer": "12"},
        {"messages": [{"role": "system", "content": "Think."}, *USER, *SAYS_7], "answer": "12"},
    ],
)
def test_the_answer_beside_a_response_is_the_gold_answer(values: dict[str, Any]) -> None:
    record = parse(values)
    assert (record.query, record.answer, record.gold) == ("How many?", "7", "12")


@pytest.mark.parametrize(
    ("values", "gold"),
    [
        ({"query": "How many?", "response": "\\boxed{7}", "answer": "12", "gold": "12"}, "12"),  # memstore's own keys
        ({"query": "How many?", "response": "\\boxed{7}", "answer": "12", "gold": None}, None),  # no label
        ({"query": "How many?", "response": "\\boxed{7}", "answer": "12", "thinking": ""}, None),  # the reward service
        ({"query": "How many?", "answer": "12"}, None),  # no response
        ({"query": "How many?", "response": None, "answer": "12"}, None),  # a table with an empty column
    ],
)
def test_the_answer_of_memstores_own_rows_is_the_rollouts(values: dict[str, Any], gold: str | None) -> None:
    record = parse(values)
    assert (record.answer, record.gold) == ("12", gold)


VERL = {"input": "user\nHow many?\nassistant\n", "output": "Answer: 7", "gts": "12"}
TRL = {"prompt": "How many?", "completion": "\\boxed{7}"}


@pytest.mark.parametrize(
    ("values", "reward"),
    [
        ({**VERL, "score": -1.0}, 0.0),  # DAPO
        ({**VERL, "score": -1}, 0.0),
        ({**VERL, "score": -1.4, "acc": False}, 0.0),  # DAPO with a penalty for length
        ({**VERL, "score": 2.0, "acc": True}, 1.0),
        ({**VERL, "score": 0.7, "acc": True}, 0.7),  # a score in 0..1 stays
        ({**VERL, "score": -1.0, "acc": True}, 1.0),  # the verdict decides
        ({**VERL, "score": math.nan}, None),
        ({**TRL, "reward": 1.0}, 1.0),  # TRL 0.14 and 0.15
        ({**TRL, "reward": -1.0}, 0.0),
        ({**TRL, "reward": math.nan}, None),
        ({**TRL, "reward": 0.0, "correct_answer": 0.5, "format_reward": 1.0}, 0.0),  # verifiers: one metric a column
        ({**TRL, "accuracy": 1.0, "generation_ms": 812.5, "entropy": 0.3, "kl": 0.1}, 1.0),  # measurements
        ({**TRL, "memstore": 1.0, "source": "ground_truth", "probability": None}, 1.0),  # memstore's hook
        ({**TRL, "memstore": 0.7, "source": "predicted", "probability": 0.7}, None),
        ({"query": "Q", "response": "7", "reward": math.nan}, None),
    ],
)
def test_the_reward_of_another_tools_row(values: dict[str, Any], reward: float | None) -> None:
    assert parse(values).reward == reward


@pytest.mark.parametrize("score", [-0.5, -2, 3, 1.5, math.inf, -math.inf])
def test_a_score_without_a_verdict_is_refused_with_the_columns(score: float) -> None:
    with pytest.raises(RecordError, match=r"reward is .* --reward-column NAME .*input, output, gts, score"):
        parse({**VERL, "score": score})


def test_missing_numbers_are_absent() -> None:
    row = {"query": "Q", "response": "#### 7", "gold": math.nan, "step": math.nan, "sample_index": math.nan}
    record = parse({**row, "answer": math.nan, "mean_logprob": math.nan, "policy": math.nan})
    assert (record.gold, record.step, record.sample_index, record.mean_logprob) == (None, None, None, None)
    assert (record.answer, record.policy) == ("7", "unknown")


@pytest.mark.parametrize(
    "values", [{"question": "How many?", "answer": "12"}, {"messages": USER}, {"doc": {}, "target": "12"}, {}]
)
def test_an_unknown_row_is_refused_with_its_keys_and_a_way_on(values: dict[str, Any]) -> None:
    with pytest.raises(RecordError) as error:
        parse(values)
    message = str(error.value)
    assert "a rollout needs query with response" in message
    assert "--map query=PATH,response=PATH" in message
    assert "--dry-run" in message
    assert all(key in message for key in values)
    assert "\n" not in message


def test_a_message_lists_a_bounded_number_of_keys() -> None:
    with pytest.raises(RecordError) as error:
        parse({f"{n}{'x' * 500}": n for n in range(500)})
    assert "and 480 more" in str(error.value)
    assert len(str(error.value)) < 2_000
