"""Prompts as trainers dump them, without their templates."""

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
        ("system\n\nBe brief.user\n\nHow many?assistant\n\n", "How many?", "Be brief."),  # Llama, specials skipped
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


def test_conversations_read_as_decoded_prompts_do() -> None:
    messages = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": [{"type": "text", "text": "C"}]},
    ]
    assert conversation(messages).text == decoded_prompt("user\nA\nassistant\nB\nuser\nC\nassistant\n").query


def test_odd_messages_are_still_text() -> None:
    assert conversation(["hi", None, {"role": "tool", "content": None}, 3]).text == "hi\n\ntool\n\n3"


def test_outputs() -> None:
    assert plain_output("4<|im_end|>") == "4"
    assert plain_output("assistant\n4") == "4"
