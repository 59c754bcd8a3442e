"""One training of benchmarks/policy_learning.py: a seed and a mode, with its result file.

The trainer is TRL's `GRPOTrainer` with `memstore_rl.trainers.trl.reward_function`. The scorer reads an embedded memory
in this process, which starts with the start policy's rollouts. Those of the training are added, and the reward model is
trained again every `retrain` steps, as the reward service does it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from policy_learning_paper import PaperRewards
from policy_learning_study import DATASET, SAMPLES, Recipe, Row, Study
from task import final_answer
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from memstore.embedding.minilm import load_embedder
from memstore.embedding.protocol import Embedder
from memstore.memory import Memory
from memstore.records import ids
from memstore.testing.embedder import HashEmbedder
from memstore_gnn.metrics import auc
from memstore_gnn.models.registry import model_folder
from memstore_gnn.verbs.train import train_memory
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.trainers.trl import reward_function
from memstore_rl.trainers.verl.batches import BatchPlan
from memstore_rl.trainers.verl.data import DataPlan, write_data


def embedder_of(name: str) -> Embedder:
    """The embedder of the memory."""
    return HashEmbedder() if name == "hash" else load_embedder(name, device="cpu")


class NotingScorer(GroupScorer):
    """A scorer that also gives its groups and their rewards to `note`."""

    note: Callable[[Sequence[Group], list[list[Reward]]], None]
    by_success = False
    paper: PaperRewards | None = None
    """Predicts the groups that have no ground truth."""

    def score_groups(self, groups: Sequence[Group]) -> list[list[Reward]]:
        """Return the rewards of several groups, in order, computed in one batch."""
        scored = super().score_groups(groups)
        if self.paper is not None:
            self._predict_as_the_paper(self.paper, groups, scored)
        if self.by_success:
            scored = [weighed_by_success(rewards) for rewards in scored]
        self.note(groups, scored)
        return scored

    @staticmethod
    def _predict_as_the_paper(paper: PaperRewards, groups: Sequence[Group], scored: list[list[Reward]]) -> None:
        """Replace the rewards of the groups that have no ground truth."""
        open_groups = [place for place, rewards in enumerate(scored) if rewards[0].source == "unscored"]
        predicted = paper.predict([(number_of(groups[place]), groups[place]) for place in open_groups])
        for place, chances in zip(open_groups, predicted, strict=True):
            scored[place] = [
                replace(reward, value=chance, probability=chance, source="predicted", reason=None)
                for reward, chance in zip(scored[place], chances.tolist(), strict=True)
            ]


def number_of(group: Group) -> int:
    """Number of the group's problem."""
    return int((group.query.key or "").removeprefix("problem-"))


def weighed_by_success(rewards: list[Reward]) -> list[Reward]:
    """Multiply the rewards of a predicted group by its mean probability."""
    chances = [reward.probability for reward in rewards if reward.source == "predicted"]
    if len(chances) < len(rewards):
        return rewards
    mean = sum(chance or 0.0 for chance in chances) / len(chances)
    return [replace(reward, value=mean * (reward.value or 0.0)) for reward in rewards]


class RunMemory:
    """The memory of a training, and the scorer over its newest reward model."""

    def __init__(self, study: Study, recipe: Recipe, labelled: Sequence[int], folder: Path) -> None:
        self._study, self._recipe, self._folder = study, recipe, folder
        self._labelled, self._files = frozenset(labelled), 0
        self._rows: list[Row] = []
        self._memory = Memory.open(folder / "memory", create=True, embedder=embedder_of(study.options.embedder))
        for number, responses in enumerate(study.begun["responses"]):
            self.add(number, responses, 0)
        self._train()
        weight = recipe.weight or study.options.weight if recipe.shaping == "residual" else 1.0
        self.scorer = NotingScorer.open(
            self._memory, device="cpu", expected=SAMPLES, shaping=recipe.shaping, residual_weight=weight
        )
        self.scorer.by_success = recipe.by_success

    def add(self, number: int, responses: Sequence[str], step: int) -> None:
        """Note the rollouts of a group, with rewards if its problem is labelled; `retrain` adds them to the memory.

        Unlabelled rollouts are in the memory too, as the service records them.
        """
        for sample, text in enumerate(responses):
            label = {"reward": self._study.truth(number, text)} if number in self._labelled else {}
            self._rows.append({**self._study.row(number, text, sample, step), **label})

    def retrain(self) -> None:
        """Add the noted rollouts to the memory, train the reward model again, and score with the new one."""
        assert self.scorer.model is not None
        with self.scorer.model.taking_up(model_folder(self._memory, self._train())):
            pass

    def _train(self) -> str:
        self._files += 1
        file = self._folder / f"rollouts-{self._files}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in self._rows), encoding="utf-8")
        self._memory.ingest([file])
        self._rows = []
        last = self._study.options.last_steps if self._recipe.shaping == "residual" else None
        return train_memory(self._memory, budget=1.0, seed=self._study.seed, last_steps=last, device="cpu").model


class Ledger:
    """Notes what the scorer said about each group of a training, with the truth, which this script knows."""

    def __init__(self) -> None:
        self.groups: list[dict[str, Any]] = []

    def add(self, step: int, number: int, answers: list[int | None], truth: list[float], rewards: list[Reward]) -> None:
        """Note one group."""
        said = {
            "source": rewards[0].source,
            "value": [reward.value for reward in rewards],
            "probability": [reward.probability for reward in rewards],
            "by_votes": [reward.by_votes for reward in rewards],
        }
        self.groups.append({"step": step, "problem": number, "answer": answers, "truth": truth, **said})

    def quality(self, first: int, last: int) -> dict[str, float]:
        """Quality of the predictions of the steps `first` to `last`."""
        groups = [
            group
            for group in self.groups
            if first < group["step"] + 1 <= last and None not in group["probability"] + group["by_votes"]
        ]
        if not groups:
            return {}
        truth, p, v = (np.array([group[name] for group in groups]) for name in ("truth", "probability", "by_votes"))
        wrong = np.array([majority_is_wrong(group["answer"], group["truth"]) for group in groups])
        gaps = [gap(truth[row], (p - v)[row]) for row in np.flatnonzero(wrong)]
        flat, mixed = truth.ravel(), 0 < truth.mean() < 1
        return {
            "groups": len(groups),
            "right": float(truth.mean()),
            "predicted": float(p.mean()),
            "auc": auc(p.ravel(), flat) if mixed else float("nan"),
            "auc_votes": auc(v.ravel(), flat) if mixed else float("nan"),
            "auc_residual": auc((p - v).ravel(), flat) if mixed else float("nan"),
            "wrong_majorities": int(wrong.sum()),
            "gap": float(np.mean(gaps)) if gaps else float("nan"),
            "gap_se": float(np.std(gaps) / np.sqrt(len(gaps))) if gaps else float("nan"),
        }


def majority_is_wrong(answers: Sequence[int | None], truth: Sequence[float]) -> bool:
    """Whether the most frequent answer of a group is wrong and another one is right."""
    given = [answer for answer in answers if answer is not None]
    if not given or max(truth) < 1:
        return False
    top = max(set(given), key=given.count)
    return truth[answers.index(top)] < 1


def gap(truth: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> float:
    """Mean of the right rollouts less that of the wrong ones."""
    return float(value[truth > 0.5].mean() - value[truth < 0.5].mean())


class Watch:
    """Notes the groups that a scorer scores in a ledger, and in the memory if there is one."""

    def __init__(self, study: Study, scorer: NotingScorer, memory: RunMemory | None) -> None:
        self.ledger, self.memory, self._study = Ledger(), memory, study
        scorer.note = self._note

    def _note(self, groups: Sequence[Group], scored: list[list[Reward]]) -> None:
        for group, rewards in zip(groups, scored, strict=True):
            number = number_of(group)
            texts = [rollout.response or "" for rollout in group.rollouts]
            step, truth = group.rollouts[0].step or 0, [self._study.truth(number, text) for text in texts]
            self.ledger.add(step, number, [final_answer(text) for text in texts], truth, rewards)
            if self.memory:
                self.memory.add(number, texts, step + 1)


class Measure(TrainerCallback):
    """Measures the accuracy, and trains the reward model again."""

    def __init__(self, study: Study, watch: Watch) -> None:
        self.curve: dict[int, float] = {0: study.begun["accuracy"]}
        self.seconds = 0.0
        self._study, self._watch = study, watch

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        options, step = self._study.options, state.global_step
        started = time.process_time()
        if step % options.every == 0 or step == state.max_steps:
            model.eval()
            self.curve[step] = self._study.accuracy(model)
            model.train()
            print(step, self.curve[step], self._watch.ledger.quality(step - options.every, step), flush=True)
        self.seconds += time.process_time() - started
        if self._watch.memory and step % options.retrain == 0 and step < state.max_steps:
            self._watch.memory.retrain()


def training_rows(study: Study, recipe: Recipe, labelled: Sequence[int], folder: Path) -> Dataset:
    """The training file of `memstore verl data`, in which only the labelled problems have gold answers."""
    known = frozenset(labelled)
    queries = [
        SourceQuery(
            ids.query_id(problem.text),
            problem.text,
            DATASET,
            f"problem-{number}",
            "math",
            str(problem.gold) if number in known else None,
            "train",
        )
        for number, problem in enumerate(study.drawn[0])
    ]
    batches = BatchPlan(size=study.options.queries, seed=study.seed) if recipe.half else None
    mode = "oracle" if recipe.mode == "verdict" else recipe.mode
    plan = DataPlan(budgets=(1.0,), modes=(mode,), seed=study.seed, batches=batches)
    [written] = [file.file for file in write_data(queries, folder / "data", plan)]
    return Dataset.from_parquet(str(folder / "data" / written), cache_dir=str(folder / "cache"))


def scorer_of(recipe: Recipe) -> NotingScorer:
    """A scorer without a reward model, with the verifier calls of the recipe."""
    budget = VerifierBudget(recipe.calls) if recipe.calls else None
    mode = "budget" if recipe.paper else recipe.mode
    return NotingScorer(None, mode=mode, expected=SAMPLES, verifier_budget=budget)


def train(study: Study, mode: str, folder: Path) -> dict[str, Any]:
    """Train the policy in one mode in a new folder; return the result."""
    torch.set_num_threads(1)
    started, options, recipe = time.process_time(), study.options, study.recipes[mode]
    labelled = study.labelled(recipe)
    folder.mkdir(parents=True)
    memory = RunMemory(study, recipe, labelled, folder) if recipe.mode == "memory" and not recipe.paper else None
    scorer = memory.scorer if memory else scorer_of(recipe)
    if recipe.paper:
        scorer.paper = PaperRewards(study, labelled, folder)
    watch = Watch(study, scorer, memory)
    measure = Measure(study, watch)
    trainer = study.trainer()(
        model=study.load(),
        args=settings(study, recipe, folder),
        reward_funcs=reward_function(scorer, num_generations=SAMPLES, scale_rewards="none"),
        train_dataset=training_rows(study, recipe, labelled, folder),
        processing_class=study.tokenizer,
        callbacks=[measure],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    noted = "".join(json.dumps(group) + "\n" for group in watch.ledger.groups)
    (study.home / f"{mode}.groups.jsonl").write_text(noted, encoding="utf-8")
    groups, every, counts = watch.ledger.groups, options.every, scorer.verdict_counts
    verified = SAMPLES * sum(group["source"] == "ground_truth" for group in groups)
    return {
        "mode": mode,
        "seed": study.seed,
        "options": asdict(options),
        "curve": measure.curve,
        "labelled": labelled,
        "quality": {step: watch.ledger.quality(step - every, step) for step in list(measure.curve)[1:]},
        "verified": counts.calls if counts else verified,
        "rollouts": SAMPLES * len(groups),
        "gauge": asdict(scorer.gauge.reading()),
        "cpu_seconds": time.process_time() - started,
    }


def settings(study: Study, recipe: Recipe, folder: Path) -> GRPOConfig:
    """The settings of the trainer, equal for all modes but for the order of the rows."""
    options = study.options
    return GRPOConfig(
        output_dir=str(folder / "trainer"),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=options.queries * SAMPLES,
        num_generations=SAMPLES,
        max_completion_length=study.length,
        max_steps=options.steps,
        learning_rate=options.rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=options.rising,
        beta=options.kl,
        scale_rewards="none",
        shuffle_dataset=not recipe.half,
        gradient_checkpointing=False,
        logging_steps=options.every,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=study.seed,
    )
