"""Chat templates are removed from decoded prompts, completions and lists of messages."""

from __future__ import annotations

import pytest

from memstore.text.chat import conversation, decoded_prompt, plain_output


@pytest.mark.parametrize(
    ("dumped", "query", "system"),
    [
        ("system\nBe brief.\nuser\nHow many?\nassistant\n", "How many?", "Be brief."),
        ("user\nHow many?\nassistant\n", "How many?", ""),
        ("user\nHow many?\nassistant\n<think>\n", "How many?", ""),
        ("user\nHow many?\nmodel\n", "How many?", ""),
        ("system\n\nBe brief.user\n\nHow many?assistant\n\n", "How many?", "Be brief."),  # Llama without special tokens
        ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n",
         "How many?", "Be brief."),
        ("How many?", "How many?", ""),
        ("Name the assistant", "Name the assistant", ""),
        ("user\nA\nassistant\nB\nuser\nC\nassistant\n", "A\nassistant\nB\nuser\nC", ""),
        ("system\nOnly this.", "system\nOnly this.", ""),
    ],
)  # fmt: skip
def test_decoded_prompts(dumped: str, query: str, system: str) -> None:
    assert decoded_prompt(dumped) == (query, system)


def test_messages_and_decoded_prompts_give_the_same_query() -> None:
    messages = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": [{"type": "text", "text": "C"}]},
    ]
    assert conversation(messages).text == decoded_prompt("user\nA\nassistant\nB\nuser\nC\nassistant\n").query


def test_items_that_are_not_messages_are_taken_as_text() -> None:
    assert conversation(["hi", None, {"role": "tool", "content": None}, 3]).text == "hi\n\ntool\n\n3"


def test_special_tokens_are_removed_from_completions() -> None:
    assert plain_output("4<|im_end|>") == "4"
    assert plain_output("assistant\n4") == "4"
