"""The study of benchmarks/pretrained_policy.py: a pretrained model on one-step problems of the sample's task."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from policy_learning_sampler import FastLlama
from policy_learning_study import RECIPES, Options, Recipe, Study
from task import Problem, draw_problems
from teacher import SHOWN
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from words import chats

ONE = (1,)
"""Number of steps of a problem."""
BATCH = 16
"""Demonstrations in a batch of the warm-up."""
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The model's chat template without its system message, which is as long as a problem."""


@dataclass(frozen=True)
class PretrainedOptions(Options):
    """Numbers of a training; the defaults are those of the table."""

    problems: int = 200
    held_out: int = 300
    lessons: int = 20
    """Batches of right demonstrations before GRPO, which show the form of an answer."""
    steps: int = 60
    every: int = 20
    retrain: int = 10
    last_steps: int = 20
    queries: int = 8
    rate: float = 1e-5
    rising: int = 10
    kl: float = 0.0
    policy: str = ""
    """Folder of the pretrained model, a Llama with the marks <|im_start|> and <|im_end|>, such as SmolLM2."""
    lesson_rate: float = 1e-4
    compute: str = "float32"
    """Type of the matrix products: `float32` or `bfloat16`; the weights are in float32 in any case."""


@dataclass(frozen=True)
class PretrainedStudy(Study):
    """The problems and the start of one seed."""

    options: PretrainedOptions
    recipes: ClassVar[Mapping[str, Recipe]] = {
        **{mode: RECIPES[mode] for mode in ("oracle", "budget", "memory", "verdict-4")},
        "verdict-12": replace(RECIPES["verdict-4"], calls=12),
    }
    policy: ClassVar[str] = "pretrained"
    length: ClassVar[int] = 26

    @cached_property
    def drawn(self) -> tuple[list[Problem], list[Problem]]:
        """The training problems and the held-out ones."""
        rng, known = random.Random(1000 + self.seed), set[str]()
        training = draw_problems(rng, self.options.problems, known, ONE)
        return training, draw_problems(rng, self.options.held_out, known, ONE)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of the policy."""
        tokenizer = AutoTokenizer.from_pretrained(self._given, padding_side="left")
        tokenizer.chat_template = TEMPLATE
        return tokenizer

    @property
    def _given(self) -> Path:
        if not self.options.policy:
            raise SystemExit("no pretrained model is given; set --policy to its folder")
        return Path(self.options.policy)

    def teach(self) -> None:
        """Train the given model on a few demonstrations, and write it as the start policy."""
        torch.manual_seed(self.seed)
        policy = self._computing(FastLlama.from_pretrained(self._given, dtype=torch.float32))
        known = {problem.text for of in self.drawn for problem in of}
        lessons = draw_problems(random.Random(2000 + self.seed), BATCH * self.options.lessons, known, ONE)
        warm_up(policy, self.tokenizer, lessons, self.options.lesson_rate)
        policy.save_pretrained(self.start)

    def load(self) -> PreTrainedModel:
        """The start policy, to be trained."""
        return self._computing(FastLlama.from_pretrained(self.start, dtype=torch.float32))

    def _computing(self, policy: FastLlama) -> FastLlama:
        if self.options.compute not in ("float32", "bfloat16"):
            raise SystemExit(f"--compute is {self.options.compute}; use float32 or bfloat16")
        policy.bfloat16 = self.options.compute == "bfloat16"
        return policy

    def trainer(self) -> Any:
        """The class of the trainer."""
        from shared_prompts import SharedPromptTrainer

        return SharedPromptTrainer


def demonstration(problem: Problem) -> str:
    """A right response in few tokens: how to read the phrase, the equation and the answer."""
    [step] = problem.steps
    word, sign = SHOWN[step.skill.operation]
    amount, term = step.amount if "#" in step.skill.phrase else "all", step.skill.operation.term(step.amount)
    equation = f"{problem.start}{sign}{term}={problem.gold}"
    return f"{step.skill.verb} {amount}, {word} {term}:{equation}\n#### {problem.gold}"


def warm_up(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, problems: list[Problem], rate: float) -> None:
    """Train a policy on one demonstration of each problem, `BATCH` at a time, at a falling rate."""
    from shared_prompts import log_probabilities

    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.95))
    for first in range(0, len(problems), BATCH):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - 0.9 * first / len(problems))
        batch = problems[first : first + BATCH]
        asked = tokenizer(chats(tokenizer, [problem.text for problem in batch]), return_tensors="pt", padding=True)
        told = tokenizer(
            [demonstration(problem) + tokenizer.eos_token for problem in batch],
            return_tensors="pt",
            padding=True,
            padding_side="right",
        )
        ids, mask = (torch.cat([asked[name], told[name]], 1) for name in ("input_ids", "attention_mask"))
        said, _ = log_probabilities(policy, ids, mask, told["input_ids"].shape[1])
        loss = -said.sum() / told["attention_mask"].sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"warm-up {first // BATCH + 1}: loss {loss.item():.3f}", flush=True)
