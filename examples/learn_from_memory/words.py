"""A tiny policy for TRL: a Qwen2 of the size of the sample's policy, with a tokenizer over the same words.

The sample's policy has its own positions and sampler, while TRL needs a model with the usual `generate` and `forward`.
So the same demonstrations train a Qwen2 of 0.3 million parameters here.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice
from typing import Any

import torch
from make import demonstrations, make_tokenizer
from policy import END, PAD, PIECE, RESPONSE_LENGTH, Tokenizer
from task import Problem, grade
from teacher import Teacher
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Fast
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

RATE, WARM_UP = 2e-3, 100
TOGETHER = 64
"""Number of prompts in a batch."""
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A chat template without roles, since the demonstrations have none."""


@cache
def _words() -> Tokenizer:
    return make_tokenizer()


class WordTokenizer(PreTrainedTokenizerFast):
    """A tokenizer of words, digits and signs that decodes to text with normal spacing."""

    def _decode(self, token_ids: Any, skip_special_tokens: bool = False, **options: Any) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return _words().decode(i for i in ids if not (skip_special_tokens and i in (PAD, END)))


def word_tokenizer() -> WordTokenizer:
    """The tokenizer of the problems and responses."""
    words = _words()
    tokens = Fast(models.WordLevel(words.ids, unk_token=None))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE.pattern), behavior="removed", invert=True)
    made = WordTokenizer(
        tokenizer_object=tokens, pad_token=words.pieces[PAD], eos_token=words.pieces[END], padding_side="left"
    )
    made.chat_template = PLAIN
    return made


def taught_policy(steps: int, seed: int, teacher: Teacher | None = None) -> Qwen2ForCausalLM:
    """Train a policy on `steps` batches of a noisy teacher's demonstrations; None: the usual teacher of the seed."""
    torch.manual_seed(seed)
    words = _words()
    shape = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": None}
    config = Qwen2Config(
        vocab_size=len(words.pieces), num_key_value_heads=4, max_position_embeddings=256, **shape, **ends
    )
    policy = Qwen2ForCausalLM(config)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))
    batches = demonstrations(words, teacher or Teacher(seed), random.Random(seed))
    for step, pairs in enumerate(islice(batches, steps), 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / WARM_UP) * (1 - 0.9 * step / steps)
        optimizer.zero_grad()
        _loss(policy, pairs).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    return policy


def _loss(policy: Qwen2ForCausalLM, pairs: Iterable[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Mean cross-entropy of the response tokens, end included."""
    rows = [[*prompt, *response, END] for prompt, response in pairs]
    length = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    starts = torch.tensor([len(prompt) for prompt, _ in pairs])[:, None]
    scored = (torch.arange(1, length) >= starts) & (ids[:, 1:] != PAD)
    logits = policy(input_ids=ids[:, :-1]).logits
    return functional.cross_entropy(logits[scored], ids[:, 1:][scored])


def chats(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str]) -> list[str]:
    """The prompts as the trainer writes them, in the tokenizer's chat template."""
    messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
    written: list[str] = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return written


@torch.inference_mode()
def respond(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    count: int,
    *,
    greedy: bool = False,
    length: int = RESPONSE_LENGTH,
) -> list[list[str]]:
    """Responses to each prompt: one by greedy decoding, or `count` samples at temperature 1."""
    asked, responses = chats(tokenizer, prompts), list[list[str]]()
    for first in range(0, len(asked), TOGETHER):
        inputs = tokenizer(asked[first : first + TOGETHER], return_tensors="pt", padding=True)
        drawn = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0, "num_return_sequences": count}
        ids = policy.generate(**inputs, max_new_tokens=length, **drawn)[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        responses += [texts[start : start + count] for start in range(0, len(texts), count)]
    return responses


def accuracy(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    length: int = RESPONSE_LENGTH,
) -> float:
    """Share of problems that greedy decoding solves."""
    responses = respond(policy, tokenizer, [problem.text for problem in problems], 1, greedy=True, length=length)
    return sum(grade(response[0], p.gold) for response, p in zip(responses, problems, strict=True)) / len(problems)
