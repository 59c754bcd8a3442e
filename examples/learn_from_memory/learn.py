"""Train a policy with GRPO (TRL, CPU): ground truth for 20 % of the problems, predictions of a memory for the rest.

    python examples/learn_from_memory/learn.py --folder learnt

Three trainings from the same policy, on the same problems of the sample's task:

    oracle     ground truth for all problems
    budget     ground truth for the labelled 20 %; trains on these only
    memory     ground truth for the same 20 %, and a reward model's prediction for the rest

The memory starts with eight rollouts of each problem by the initial policy, and the labels of the labelled ones. The
rollouts of the training are added to the memory, and the reward model is trained again every `--retrain` steps.
`--memory` starts from a memory that another run has filled.

The script prints greedy accuracy on held-out problems, during the trainings and at the end. It is one seed: a
demonstration that the parts work together, not a comparison of methods.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "sample_rollouts"))

import torch
from datasets import Dataset
from remember import Service, remember, train_again
from task import Problem, draw_problems, grade
from transformers import PrinterCallback, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from watch import Ledger, Quality, Watch
from words import WordTokenizer, accuracy, respond, taught_policy, word_tokenizer

from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Mode
from memstore_rl.trainers.trl import RewardFunction, reward_function
from memstore_rl.trainers.verl.data import DATA_MODES, DataPlan, write_data

SAMPLES = 8
DATASET = "arithmetic"


@dataclass
class Study:
    """State that the trainings share."""

    options: argparse.Namespace
    tokenizer: WordTokenizer
    problems: list[Problem]
    held_out: list[Problem]
    started: float

    @property
    def start(self) -> Path:
        """Folder of the initial policy, which TRL also loads as the KL reference."""
        return Path(self.options.policy or self.options.folder / "start")

    @property
    def memory(self) -> Path:
        """Folder of the memory."""
        return Path(self.options.memory or self.options.folder / "memory")

    def rows(self, mode: Mode) -> Dataset:
        """The training data of a mode."""
        budget = "" if mode == "oracle" else f"_{self.options.budget * 100:g}"
        file = self.options.folder / "data" / f"train_{mode}{budget}.parquet"
        return Dataset.from_parquet(str(file), cache_dir=str(self.options.folder / "cache"))

    def log(self, text: str) -> None:
        """Print with the elapsed time."""
        print(f"[{time.monotonic() - self.started:5.0f} s] {text}", flush=True)

    def train_model(self, run: str, since: int) -> None:
        """Train the reward model on the whole memory; report drift of a run's rollouts from step `since` on."""
        trained = train_again(self.memory, self.options.seed, run, since)
        if trained.drift:
            self.log(f"{run}, from step {since} on: {trained.drift}")
        self.log(f"the reward model is trained: {trained.model}")


def prepare(study: Study) -> float:
    """Train the initial policy if none is given, write the training data of the modes; return the accuracy."""
    options = study.options
    if options.policy is None:
        taught_policy(options.lessons, options.policy_seed).save_pretrained(study.start)
    right = accuracy(Qwen2ForCausalLM.from_pretrained(study.start), study.tokenizer, study.held_out)
    study.log(f"the policy at the start: {right:.3f} on held-out problems")
    queries = [
        SourceQuery(f"problem-{n}", problem.text, DATASET, f"problem-{n}", "math", str(problem.gold), "train")
        for n, problem in enumerate(study.problems)
    ]
    plan = DataPlan(budgets=(options.budget,), seed=options.seed, batches=None)
    write_data(queries, options.folder / "data", plan)
    return right


def fill_memory(study: Study) -> None:
    """Add rollouts of the initial policy to the memory, with rewards for the labelled problems."""
    options, policy = study.options, Qwen2ForCausalLM.from_pretrained(study.start)
    labelled = {extra["key"] for extra in study.rows("memory")["extra_info"] if extra["labelled"]}
    rollouts = []
    for number, responses in enumerate(respond(policy, study.tokenizer, [p.text for p in study.problems], SAMPLES)):
        problem, key = study.problems[number], f"problem-{number}"
        query = {"query": problem.text, "query_id": key, "dataset": DATASET, "domain": "math"}
        for index, text in enumerate(responses):
            label = {"reward": grade(text, problem.gold)} if key in labelled else {}
            made = {"policy": options.name, "run": f"{options.name}-start", "step": 0, "sample_index": index}
            rollouts.append({**query, **made, "response": text, **label})
    remember(study.memory, options.folder / "start.jsonl", rollouts)


class Retrain(TrainerCallback):
    """Every `--retrain` steps except the last: stop the service, train the reward model again, restart."""

    def __init__(self, study: Study, service: Service) -> None:
        self._study, self._service = study, service

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        every = self._study.options.retrain
        if every and state.global_step % every == 0 and state.global_step < state.max_steps:
            self._service.stop()
            self._study.train_model(self._study.options.name, state.global_step - every)
            self._service.start()


def learn(study: Study, mode: Mode, rewards: RewardFunction, *callbacks: TrainerCallback) -> dict[int, float]:
    """Train the policy in one mode and return its accuracy by step."""
    options, watch = study.options, Watch(study.options.every, study.tokenizer, study.held_out)
    trainer = GRPOTrainer(
        model=str(study.start),
        args=GRPOConfig(
            output_dir=str(options.folder / mode),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=options.queries_a_step * SAMPLES,
            num_generations=SAMPLES,
            max_completion_length=90,
            max_steps=options.steps,
            learning_rate=options.rate,
            lr_scheduler_type="constant",
            beta=options.kl,
            # Division by the group's deviation would amplify small differences between predictions.
            scale_rewards="none",
            gradient_checkpointing=False,
            logging_steps=options.every,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=options.policy_seed,
        ),
        reward_funcs=rewards,
        train_dataset=study.rows(mode),
        processing_class=study.tokenizer,
        callbacks=[watch, *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    log = json.dumps(trainer.state.log_history, indent=1)
    (options.folder / f"{mode}.log.json").write_text(log + "\n", encoding="utf-8")
    study.log(f"{mode}: {'  '.join(f'step {step} {right:.3f}' for step, right in watch.curve.items())}")
    return watch.curve


def learn_from_memory(study: Study) -> tuple[dict[int, float], list[Quality]]:
    """Train with the memory's rewards and record rollouts; return accuracy by step and quality of predictions."""
    options = study.options
    fill_memory(study)
    study.train_model(f"{options.name}-start", 0)
    ledger = Ledger(options.every, {f"problem-{n}": problem.gold for n, problem in enumerate(study.problems)})
    with Service(study.memory, options.folder / "service.log", SAMPLES) as service:
        rewards = reward_function(service.client, num_generations=SAMPLES, policy=options.name, run=options.name)
        curve = learn(study, "memory", watched(rewards, ledger), Retrain(study, service))
    return curve, ledger.quality()


def watched(rewards: RewardFunction, ledger: Ledger) -> RewardFunction:
    """The same reward function, which also adds the rewards of unlabelled problems to the ledger."""

    def memstore(completions: Any, extra_info: Any, trainer_state: Any, **columns: Any) -> list[float | None]:
        given = rewards(completions=completions, extra_info=extra_info, trainer_state=trainer_state, **columns)
        rows = [row for row, extra in enumerate(extra_info) if not extra["labelled"]]
        keys, responses = [extra_info[row]["key"] for row in rows], [completions[row][0]["content"] for row in rows]
        ledger.add(trainer_state.global_step, keys, responses, [given[row] for row in rows])
        return given

    return memstore


def parse_arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the memory and the results")
    parser.add_argument("--memory", type=Path, help="a memory that another run has filled; it is extended")
    parser.add_argument("--policy", type=Path, help="an initial policy of another run: its folder start")
    parser.add_argument("--name", default="first", help="name of the policy and its run in the memory")
    parser.add_argument("--problems", type=int, default=400, help="number of training problems")
    parser.add_argument("--held-out", type=int, default=1000, help="number of held-out problems")
    parser.add_argument("--budget", type=float, default=0.2, help="share of the problems that are labelled")
    parser.add_argument("--lessons", type=int, default=1500, help="batches of demonstrations before GRPO")
    parser.add_argument("--steps", type=int, default=200, help="steps of GRPO")
    parser.add_argument("--every", type=int, default=40, help="steps between two measurements")
    parser.add_argument("--retrain", type=int, default=40, help="steps between trainings of the reward model; 0: never")
    parser.add_argument("--queries-a-step", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--kl", type=float, default=0.05, help="weight of the KL penalty")
    parser.add_argument("--mode", action="append", choices=DATA_MODES, help="only this mode; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the problems and of the labelled ones")
    parser.add_argument("--policy-seed", type=int, default=0, help="seed of the policy, its teacher and its training")
    return parser.parse_args()


def print_table(curves: dict[str, dict[int, float]], quality: list[Quality], held_out: int) -> None:
    """Print the accuracy of the modes and the quality of the predictions."""
    print(f"\n{'mode':<8} accuracy on {held_out} held-out problems (standard error)")
    for mode, curve in curves.items():
        right = list(curve.values())[-1]
        print(f"{mode:<8} {right:.3f} ({math.sqrt(right * (1 - right) / held_out):.3f})")
    if quality:
        print("\npredicted rewards of unlabelled problems against the truth; votes in brackets")
        print(f"{'steps':<10}{'rollouts':>9}{'right':>7}{'predicted':>11}{'AUC':>15}{'advantage':>16}")
    for row in quality:
        order = f"{row.auc:.3f} ({row.auc_votes:.3f})"
        advantage = f"{row.advantage:.3f} ({row.advantage_votes:.3f})"
        print(f"{row.steps:<10}{row.rollouts:>9}{row.right:>7.3f}{row.predicted:>11.3f}{order:>15}{advantage:>16}")


def main() -> None:
    """Train the initial policy, train it in each mode, and print the results."""
    options = parse_arguments()
    options.folder.mkdir(parents=True)
    torch.set_num_threads(1)
    rng, known = random.Random(1000 + options.seed), set[str]()
    problems, held_out = draw_problems(rng, options.problems, known), draw_problems(rng, options.held_out, known)
    study = Study(options, word_tokenizer(), problems, held_out, time.monotonic())
    curves: dict[str, dict[int, float]] = {"start": {0: prepare(study)}}
    quality: list[Quality] = []
    for mode in options.mode or DATA_MODES:
        if mode == "memory":
            curves[mode], quality = learn_from_memory(study)
            continue
        with GroupScorer.open(mode=mode) as scorer:
            curves[mode] = learn(study, mode, reward_function(scorer, num_generations=SAMPLES))
    kept = {"accuracy": curves, "predictions": [row._asdict() for row in quality]}
    (options.folder / "curves.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print_table(curves, quality, len(held_out))


if __name__ == "__main__":
    main()
