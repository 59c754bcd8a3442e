"""Special tokens in decoded text: removed around answers and prompts, kept where they are text."""

from __future__ import annotations

import pytest

from memstore.text import canonical_answer, split_response
from memstore.text.chat import decoded_prompt
from memstore.text.special_tokens import assistant_text
from memstore.types import Domain

END_TOKENS = [
    "</s>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<|end|>", "<|return|>", "<eos>",
    "<end_of_turn>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<|eom_id|>", "<|eos|>", "<end_of_utterance>",
    "<|im_end|>\n", "</s></s></s>", "<|im_end|><|endoftext|>", "<|eot_id|>\n<|end_of_text|>", "<pad>" * 50,
    "<|fim_pad|>", " </s> ", "<|im_end|>\n<|im_start|>assistant\n", "<|a_token_of_an_unknown_model|>",
]  # fmt: skip
ANSWERS: list[tuple[Domain, str, str]] = [
    ("math", "The answer is 12.", "12"),
    ("math", "3 * 4 = 12.\n#### 12", "12"),
    ("math", "So it is \\boxed{12}", "12"),
    ("math", "12", "12"),
    ("qa", "The answer is (B)", "B"),
    ("qa", "B", "B"),
    ("other", "We looked it up. The answer is Paris.", "paris"),
    ("code", "    return a + b", "def add(a, b):\n    return a + b"),
    ("code", "```python\ndef add(a, b):\n    return a + b\n```", "def add(a, b):\n    return a + b"),
]
QUERIES = {"qa": "Which?\n(A) salt\n(B) sugar", "code": "def add(a, b):\n    '''Add.'''\n"}


@pytest.mark.parametrize("token", END_TOKENS)
@pytest.mark.parametrize(("domain", "response", "value"), ANSWERS)
def test_end_tokens_do_not_change_an_answer(domain: Domain, response: str, value: str, token: str) -> None:
    query = QUERIES.get(domain, "")
    split, clean = split_response(response + token, domain), split_response(response, domain)
    assert canonical_answer(split.answer, domain, query).value == value
    assert split.thinking == clean.thinking
    # A row may give its answer without a response.
    assert canonical_answer(clean.answer.rstrip() + token, domain, query).value == value


OWN_WORDS = [
    ("12<|im_end|>\n<|im_start|>user\nAnd 3 * 5?<|im_end|>\n<|im_start|>assistant\n15", "12"),  # a made-up next turn
    ("12</s>[INST] And 3 * 5? [/INST] 15</s>", "12"),
    ("12.<|endoftext|>Human: What is 3 * 5?", "12."),  # another document
    ("Call.<|im_end|>\n<|im_start|>tool\n99<|im_end|>\n<|im_start|>assistant\n12", "Call.\n12"),  # a tool's result
    ("Call.<|im_end|>\n<|im_start|>user\n<tool_response>\n99\n</tool_response><|im_end|>\n<|im_start|>assistant\n12",
     "Call.\n12"),  # Qwen puts tool results into user turns
    ("<|channel|>analysis<|message|>3 * 4<|end|><|start|>assistant<|channel|>final<|message|>12<|return|>",
     "<think>3 * 4\n</think>12"),  # harmony
    ("<|channel|>analysis<|message|>3 * 4, so", "<think>3 * 4, so"),  # truncated before the final channel
    ("analysis3 * 4assistantfinal12", "<think>3 * 4</think>12"),  # harmony without its special tokens
    ("[THINK]3 * 4[/THINK]12</s>", "<think>3 * 4</think>12"),  # Magistral
    ("◁think▷3 * 4◁/think▷12", "<think>3 * 4</think>12"),  # Kimi
    ("<|im_start|>assistant\n12<|im_end|>", "12"),
    ("<s>12</s>", "12"),
]  # fmt: skip
KEPT = [
    'text.split("<|endoftext|>")[0]',  # a string in a program
    "The token `<|im_end|>` ends a turn.",
    "a <b> and c</b>", "x < y and y > z", "<div>12</div>", "if a <s> b", "[1, 2]", "a | b", "2 <| 3",
    "The price is <s>12</s> 10.",  # HTML for struck-out text
    "analysis of the final answer", "The assistant says 12", "",
]  # fmt: skip


@pytest.mark.parametrize(("response", "own"), OWN_WORDS)
def test_the_models_own_words(response: str, own: str) -> None:
    assert assistant_text(response) == own


@pytest.mark.parametrize("text", KEPT)
def test_text_that_only_looks_like_a_token_is_kept(text: str) -> None:
    assert assistant_text(text) == text
    assert assistant_text(assistant_text(text)) == assistant_text(text)


Q = "Ann has 3 bags of 4 pears.\nHow many pears?"
PROMPTS = [
    f"<｜begin▁of▁sentence｜><｜User｜>{Q}<｜Assistant｜>",  # DeepSeek
    f"<｜begin▁of▁sentence｜><｜User｜>{Q}<｜Assistant｜><think>\n",
    f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n",  # Qwen
    f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",  # Qwen 3 without thinking
    f"user\n{Q}\nassistant\n<think>\n\n</think>\n\n",
    f"user\n{Q}\nassistant\n",
    f"<bos><start_of_turn>user\n{Q}<end_of_turn>\n<start_of_turn>model\n",  # Gemma
    f"user\n{Q}\nmodel\n",
    f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{Q}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",  # Llama 3
    f"<s>[INST] {Q} [/INST]", f"[INST]{Q}[/INST]",  # Llama 2, Mistral
    f"<|user|>\n{Q}<|end|>\n<|assistant|>\n",  # Phi
    f"<|user|>\n{Q}</s>\n<|assistant|>\n",  # Zephyr
    f"[gMASK]<sop><|user|>\n{Q}<|assistant|>\n",  # GLM
    f"<|start|>user<|message|>{Q}<|end|><|start|>assistant",  # gpt-oss
    f"<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>{Q}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    f"USER: {Q} ASSISTANT:",  # Vicuna
    f"### Instruction:\n{Q}\n\n### Response:\n",  # Alpaca
    f"User: {Q}\n\nAssistant:",
    Q,
]  # fmt: skip
WITH_SYSTEM = [
    f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n",
    f"system\nBe brief.\nuser\n{Q}\nassistant\n",
    f"<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{Q} [/INST]",
    f"<|system|>\nBe brief.<|end|>\n<|user|>\n{Q}<|end|>\n<|assistant|>\n",
    f"<|start|>system<|message|>Be brief.<|end|><|start|>user<|message|>{Q}<|end|><|start|>assistant",
    f"Be brief. USER: {Q} ASSISTANT:",
    f"Be brief.\n\n### Instruction:\n{Q}\n\n### Response:",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_all_templates_give_the_same_query(prompt: str) -> None:
    assert decoded_prompt(prompt) == (Q, "")


@pytest.mark.parametrize("prompt", WITH_SYSTEM)
def test_all_templates_give_the_same_system_prompt(prompt: str) -> None:
    assert decoded_prompt(prompt) == (Q, "Be brief.")


@pytest.mark.parametrize(
    "prompt",
    [
        "Name the assistant", "Write the response:", "Complete this.\nResponse:", "The user: who is it?",
        "Explain <think> tags", "What does [INST] mean?\nIt is a token", "system\nOnly this.",
    ],
)  # fmt: skip
def test_prompts_without_a_template_are_kept(prompt: str) -> None:
    if "[INST]" not in prompt:
        assert decoded_prompt(prompt) == (prompt, "")
    assert decoded_prompt(prompt).query


def test_an_empty_thinking_of_the_template_is_no_thinking() -> None:
    assert split_response("<think>\n\n</think>\n\n\\boxed{12}<|im_end|>", "math") == ("", "12")
    assert split_response("We multiply.\n</think>\n\n\\boxed{12}<｜end▁of▁sentence｜>", "math") == (
        "We multiply.",
        "12",
    )


def test_a_text_of_many_tokens_takes_linear_time() -> None:
    for token in ("<pad>", "</s>", "<|im_end|>", "<|im_start|>assistant\n", "<|", "[INST]", "<s>a</s>b", "<|message|>"):
        assert isinstance(assistant_text("12" + token * 20_000), str)
        assert isinstance(decoded_prompt(token * 20_000 + "12").query, str)
