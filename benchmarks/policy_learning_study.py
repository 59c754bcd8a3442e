"""The study of benchmarks/policy_learning.py: what the trainings of one seed share.

A seed has its own problems, start policy (taught by its own noisy teacher) and start rollouts, eight for each problem.
With the setting `start`, all seeds have one given start policy. These are written once to `FOLDER/seed-SEED` and read
by every mode, so that modes differ in their rewards alone.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from choose import top_share
from policy import RESPONSE_LENGTH
from policy_learning_sampler import FastQwen2
from task import Problem, draw_problems, grade, settings
from teacher import WEAK_SHARES, Teacher
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from words import accuracy, respond, taught_policy, word_tokenizer

from memstore.embedding.minilm import load_embedder
from memstore_gnn.queue.cover import cover_queries
from memstore_rl.rewards.reward import Mode, Shaping

SAMPLES = 8
DATASET = "arithmetic"
WEAK_SKILLS = {
    "poor": (0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5),
    "usual": WEAK_SHARES,
    "strong": (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 3),
}
"""Number of skills of each setting that the teacher of the start policy misreads, out of seven."""
Row = dict[str, Any]
"""A rollout as `memstore ingest` reads it."""


@dataclass(frozen=True)
class Recipe:
    """A mode of the benchmark: where the rewards of a training come from."""

    mode: Mode
    labels: Literal["all", "random", "chosen"]
    """Queries with gold answers; chosen from those that `Options.covered` allows."""
    shaping: Shaping = "probability"
    half: bool = False
    """Whether half of each batch is labelled, by repetition of labelled rows."""
    calls: int | None = None
    """Verifier calls a step, of mode `verdict`."""
    weight: float | None = None
    """Factor of the residual reward; None: that of the options."""
    paper: bool = False
    """Whether the paper's network predicts, in place of the memory's reward model."""
    by_success: bool = False
    """Whether a group's residual rewards are multiplied by its mean probability. Groups without any right rollout have
    much of what is wrong in them."""


RECIPES: dict[str, Recipe] = {
    "oracle": Recipe("oracle", "all"),
    "budget-random": Recipe("budget", "random"),
    "budget": Recipe("budget", "chosen"),
    "memory-before": Recipe("memory", "random"),
    "paper": Recipe("memory", "random", paper=True),
    "memory-random": Recipe("memory", "random", "residual", half=True),
    "memory-probability": Recipe("memory", "chosen", half=True),
    "memory": Recipe("memory", "chosen", "residual", half=True),
    "memory-by-success": Recipe("memory", "chosen", "residual", half=True, by_success=True),
    "memory-weight-1": Recipe("memory", "chosen", "residual", half=True, weight=1.0),
    "verdict-2": Recipe("verdict", "all", calls=2),
    "verdict-4": Recipe("verdict", "all", calls=4),
    "verdict-8": Recipe("verdict", "all", calls=8),
    "verdict-16": Recipe("verdict", "all", calls=16),
    "verdict-25": Recipe("verdict", "all", calls=25),
}


@dataclass(frozen=True)
class Options:
    """Numbers of a training; the defaults are those of the table."""

    problems: int = 400
    held_out: int = 1000
    budget: float = 0.2
    """Share of the problems that are labelled."""
    lessons: int = 1500
    """Batches of demonstrations that teach the start policy."""
    teacher: str = "usual"
    """How much the teacher of the start policy misreads: `poor`, `usual` or `strong` (`WEAK_SKILLS`)."""
    covered: int = 16
    """Settings of the task from which labels are chosen; with fewer than all 16, labels leave most skills out."""
    start: str = ""
    """Folder of a start policy for all seeds; empty: each seed's own teacher teaches one."""
    steps: int = 80
    every: int = 40
    """Steps between two measurements of the accuracy."""
    retrain: int = 20
    """Steps between two trainings of the reward model."""
    last_steps: int = 40
    """The reward model of residual rewards is fitted to the rollouts of the last so many steps."""
    queries: int = 16
    """Groups of a step."""
    rate: float = 2e-4
    rising: int = 0
    """First steps, in which the learning rate rises to `rate`."""
    kl: float = 0.05
    """Weight of the KL penalty to the start; without it, labelled problems are learnt by heart after 40 steps."""
    weight: float = 4.0
    """Factor of the residual reward."""
    embedder: str = "hash"
    """Embedder of the memory: `hash`, or the name of a sentence embedder. all-MiniLM-L6-v2 chooses the labels."""


@dataclass(frozen=True)
class Study:
    """The problems and the start of one seed; another policy or task is a subclass."""

    folder: Path
    seed: int
    options: Options

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    policy: ClassVar[str] = "tiny"
    """Name of the policy in the memory."""
    length: ClassVar[int] = RESPONSE_LENGTH
    """Tokens of the longest response."""

    @property
    def home(self) -> Path:
        """Folder of the seed."""
        return self.folder / f"seed-{self.seed}"

    @property
    def start(self) -> Path:
        """Folder of the start policy, which TRL also loads as the KL reference."""
        return self.home / "start"

    @cached_property
    def drawn(self) -> tuple[list[Problem], list[Problem]]:
        """The training problems and the held-out ones."""
        rng, known = random.Random(1000 + self.seed), set[str]()
        training = draw_problems(rng, self.options.problems, known)
        return training, draw_problems(rng, self.options.held_out, known)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of the policy."""
        return word_tokenizer()

    def teach(self) -> None:
        """Write the start policy."""
        teacher = Teacher(self.seed, WEAK_SKILLS[self.options.teacher])
        taught_policy(self.options.lessons, self.seed, teacher).save_pretrained(self.start)

    def load(self) -> PreTrainedModel:
        """The start policy, to be trained."""
        return FastQwen2.from_pretrained(self.start)

    def trainer(self) -> Any:
        """The class of the trainer; only a training imports it."""
        from trl import GRPOTrainer

        return GRPOTrainer

    def accuracy(self, policy: PreTrainedModel) -> float:
        """Share of the held-out problems that greedy decoding solves."""
        return accuracy(policy, self.tokenizer, self.drawn[1], self.length)

    def prepare(self) -> None:
        """Teach the start policy, sample its rollouts and measure its accuracy, if that has not been done."""
        done = self.home / "start.json"
        if done.exists():
            return
        self.home.mkdir(parents=True, exist_ok=True)
        if self.options.start:
            shutil.copytree(self.options.start, self.start, dirs_exist_ok=True)
        else:
            self.teach()
        policy, texts = self.load(), [problem.text for problem in self.drawn[0]]
        responses = respond(policy, self.tokenizer, texts, SAMPLES, length=self.length)
        vectors = load_embedder(device="cpu").embed(texts)
        kept = {"accuracy": self.accuracy(policy), "responses": responses, "vectors": np.round(vectors, 5).tolist()}
        half_written = done.with_suffix(".part")
        half_written.write_text(json.dumps(kept), encoding="utf-8")
        half_written.rename(done)

    @cached_property
    def begun(self) -> dict[str, Any]:
        """Of the start policy: its accuracy and its responses to each problem. Of the problems: their vectors."""
        read: dict[str, Any] = json.loads((self.home / "start.json").read_text(encoding="utf-8"))
        return read

    def row(self, number: int, response: str, sample: int, step: int) -> Row:
        """A rollout of a training problem without its reward; step 0 is the start policy."""
        query = {"query": self.drawn[0][number].text, "query_id": f"problem-{number}"}
        made = {"policy": self.policy, "run": f"seed-{self.seed}", "step": step, "sample_index": sample}
        return {**query, "dataset": DATASET, "domain": "math", "response": response, **made}

    def truth(self, number: int, response: str) -> float:
        """1.0 if a response solves a training problem, else 0.0."""
        return grade(response, self.drawn[0][number].gold)

    def labelled(self, recipe: Recipe) -> list[int]:
        """Numbers of the labelled problems."""
        count = len(self.drawn[0])
        budget = round(count * self.options.budget)
        if recipe.labels == "all":
            return list(range(count))
        if recipe.labels == "random":
            return sorted(random.Random(self.seed).sample(range(count), budget))
        allowed = np.array([number for number in range(count) if self.covers(number)])
        vectors = np.array(self.begun["vectors"], np.float32)[allowed]
        share = np.array([top_share(self.begun["responses"][number]) for number in allowed])
        return [int(allowed[row]) for row in cover_queries(vectors, share, budget)]

    def covers(self, number: int) -> bool:
        """Whether a training problem may be labelled: its setting is among the first of `Options.covered`."""
        opening = self.drawn[0][number].text
        return any(setting.opening in opening for setting in settings()[: self.options.covered])
