"""The trainer hooks and an ingest of the same row read the same query, response and gold answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memstore.records.record import RecordDefaults, parse_record
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward, record_values
from memstore_rl.trainers.trl import reward_function
from memstore_rl.trainers.verl.rows import query_of

CALL = [{"type": "function", "function": {"name": "mul", "arguments": {"a": 3, "b": 4}}}]
TOOL = {"role": "tool", "name": "mul", "content": "99"}
ASKED = [{"role": "user", "content": "what is 3 * 4 ?"}]


def says(content: object, **fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": content, **fields}


def text(value: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": value}]


class Recorder(GroupScorer):
    """Keeps the groups that it scores."""

    groups: list[Group]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Reward]]:
        self.groups = list(groups)
        return super().score_groups(groups)


@pytest.fixture
def scorer() -> Iterator[Recorder]:
    with Recorder.open(mode="oracle") as opened:
        yield opened


def reward_of(scorer: Recorder, completion: object, *, gold: object = "12", prompt: Any = ASKED) -> float | None:
    [value] = reward_function(scorer)(
        [prompt],
        [completion],
        data_source=["sums"],
        reward_model=[{"ground_truth": gold}],
        extra_info=[{"split": "train", "query_id": "q", "domain": "math"}],
    )
    return value


COMPLETIONS: list[tuple[Any, str, str, float]] = [
    # completion, thinking, answer, reward
    ([says("The answer is 12.")], "", "12.", 1.0),
    ("The answer is 12.", "", "12.", 1.0),  # a text
    ("The answer is 12.<|im_end|>", "", "12.", 1.0),  # an end token that was left in it
    ([says(None, tool_calls=CALL), TOOL, says("The answer is 12.")], "", "12.", 1.0),  # no content beside a call
    ([{"role": "assistant", "tool_calls": CALL}, TOOL, says("The answer is 12.")], "", "12.", 1.0),  # TRL before 1.1
    ([says(float("nan"), tool_calls=CALL), TOOL, says("The answer is 12.")], "", "12.", 1.0),  # None after pandas
    ([says("", tool_calls=CALL), TOOL, says("The answer is 12.")], "", "12.", 1.0),
    ([says(None, tool_calls=CALL)], "", "", 0.0),  # unfinished: a call is no answer
    ([says(None, tool_calls=CALL), TOOL], "", "", 0.0),  # what the tool returned is not the policy's answer
    ([says(None, tool_calls=CALL), {"role": "tool", "content": "The answer is 12."}], "", "", 0.0),
    ([says("The answer is 7."), {"role": "function", "content": "The answer is 12."}], "", "7.", 0.0),
    ([says("The answer is 7."), {"role": "user", "content": "The answer is 12."}], "", "7.", 0.0),
    ([TOOL], "", "", 0.0),
    ([], "", "", 0.0),
    ([says(text("The answer is 12."))], "", "12.", 1.0),  # content in parts
    ([says([{"type": "image"}, *text("The answer is 12.")])], "", "12.", 1.0),
    ([says([{"type": "image", "text": None}])], "", "", 0.0),
    ([says({"type": "text", "text": "The answer is 12."})], "", "12.", 1.0),
    ([says("The answer is 12.", reasoning_content="three fours")], "three fours", "12.", 1.0),  # DeepSeek, TRL
    ([says("The answer is 12.", reasoning="three fours")], "three fours", "12.", 1.0),  # vLLM, OpenRouter
    ([says("The answer is 12.", thinking="three fours")], "three fours", "12.", 1.0),  # gpt-oss
    ([says([{"type": "thinking", "thinking": "three fours"}, *text("The answer is 12.")])], "three fours", "12.", 1.0),
    ([says("The answer is 12.", reasoning_content="")], "", "12.", 1.0),
    ([says("The answer is 12.", reasoning_content=None)], "", "12.", 1.0),
    ([says("<think>three fours</think>The answer is 12.")], "three fours", "12.", 1.0),  # a near miss: as written
    ([{"role": "model", "content": "The answer is 12."}], "", "12.", 1.0),  # Gemma
    ([{"role": "gpt", "content": "The answer is 12."}], "", "12.", 1.0),  # ShareGPT
    (["The answer is 12."], "", "12.", 1.0),
]


@pytest.mark.parametrize(("completion", "thinking", "answer", "reward"), COMPLETIONS)
def test_completions(scorer: Recorder, completion: object, thinking: str, answer: str, reward: float) -> None:
    assert reward_of(scorer, completion) == reward
    [group] = scorer.groups
    hook = parse_record(record_values(group.query, group.rollouts[0], 0), RecordDefaults())
    row = {"prompt": ASKED, "completion": completion, "domain": "math"}
    ingested = parse_record(row, RecordDefaults())
    assert (hook.query, hook.thinking, hook.answer) == (ingested.query, ingested.thinking, ingested.answer)
    assert (ingested.thinking, ingested.answer) == (thinking, answer)


@pytest.mark.parametrize("content", [None, float("nan")])
def test_a_call_without_text_is_not_the_word_none(scorer: Recorder, content: object) -> None:
    assert reward_of(scorer, [says(content, tool_calls=CALL)], gold="None") == 0.0
    assert scorer.groups[0].rollouts[0].response == ""


PROMPTS: list[tuple[Any, str]] = [
    (ASKED, "what is 3 * 4 ?"),
    ("what is 3 * 4 ?", "what is 3 * 4 ?"),
    ([{"role": "system", "content": "Think."}, *ASKED], "what is 3 * 4 ?"),
    ([{"role": "user", "content": [{"type": "image"}, *text("Find x.")]}], "Find x."),  # geo3k
    ([{"role": "user", "content": [{"type": "image", "text": None}, *text("Find x.")]}], "Find x."),  # from Arrow
    (np.array(ASKED, dtype=object), "what is 3 * 4 ?"),  # verl rows from pandas
    (tuple(ASKED), "what is 3 * 4 ?"),
    (
        [*ASKED, says("11"), {"role": "user", "content": "Wrong. Try again."}],  # several turns: all of them
        "what is 3 * 4 ?\nassistant\n11\nuser\nWrong. Try again.",
    ),
    (
        [*ASKED, says(None, tool_calls=CALL), TOOL],  # a prompt that ends with a tool's result
        "what is 3 * 4 ?\nassistant\n\ntool\n99",
    ),
    ("<|im_start|>user\nFind x.<|im_end|>\n<|im_start|>assistant\n", "Find x."),  # rendered by a template
]


@pytest.mark.parametrize(("prompt", "query"), PROMPTS)
def test_prompts(scorer: Recorder, prompt: Any, query: str) -> None:
    assert reward_of(scorer, "12", prompt=prompt) == 1.0
    assert scorer.groups[0].query.text == query
    assert query_of(prompt, "sums", {}, {}).text == query
    assert parse_record({"prompt": prompt, "completion": "12"}, RecordDefaults()).query == query


GOLDS: list[tuple[Any, str | None]] = [
    ("12", "12"),
    (12, "12"),
    (12.5, "12.5"),
    (np.int64(12), "12"),
    (["12"], "12"),  # a list of one, as verl's math data sets have it
    (np.array(["12"], dtype=object), "12"),
    ({"ground_truth": "12"}, "12"),
    ({"a": 1, "b": [2]}, '{"a": 1, "b": [2]}'),
    ("nan", "nan"),  # a near miss: the text is a gold answer
    ("None", "None"),
    (None, None),
    ("", None),
    ("  ", None),
    (float("nan"), None),  # None after a table
    (np.float32("nan"), None),
    (Decimal("NaN"), None),
    (pd.NA, None),
    (pd.NaT, None),
    ([float("nan")], None),
    ([], None),
]


@pytest.mark.parametrize(("gold", "expected"), GOLDS)
def test_golds(scorer: Recorder, gold: object, expected: str | None) -> None:
    assert query_of(ASKED, "sums", {"ground_truth": gold}, {}).gold == expected
    dumped = {"input": "what is 3 * 4 ?", "output": "12", "gts": gold}
    assert parse_record(dumped, RecordDefaults()).gold == expected
    if expected is None:
        assert reward_of(scorer, "12", gold=gold) is None
