"""Train a policy with GRPO (TRL, CPU): ground truth for 20 % of the problems, predictions of a memory for the rest.

    python examples/learn_from_memory/learn.py --folder learnt

Three trainings from the same policy, on the same problems of the sample's task:

    oracle     ground truth for all problems
    budget     ground truth for the labelled 20 %; trains on these only
    memory     ground truth for the same 20 %; for the rest, what a reward model knows beyond the votes

The memory starts with eight rollouts of each problem by the initial policy. They decide which problems are labelled
(`memstore_gnn.queue.cover`). Half of each batch of the training is labelled. `memstore serve` scores the rollouts,
records them, and trains the reward model again every `--retrain` steps. `--memory` starts from a memory that another
run has filled.

The script prints greedy accuracy on held-out problems, during the trainings and at the end. It is one seed;
benchmarks/policy_learning.py compares more modes over several.
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

import numpy as np
import torch
from choose import top_share
from datasets import Dataset
from remember import Service, labelled_queries, remember, train_model
from task import Problem, draw_problems, grade
from transformers import PrinterCallback, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer
from watch import Ledger, Quality, Watch
from words import WordTokenizer, accuracy, respond, taught_policy, word_tokenizer

from memstore.embedding.minilm import load_embedder
from memstore.records.ids import query_id
from memstore_gnn.queue.cover import cover_queries
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.trainers.trl import RewardFunction, reward_function
from memstore_rl.trainers.verl.batches import BatchPlan
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

    def rows(self, mode: str) -> Dataset:
        """The training data of a mode."""
        file = self.options.folder / f"data-{mode}" / f"train_{mode}{'' if mode == 'oracle' else '_100'}.parquet"
        return Dataset.from_parquet(str(file), cache_dir=str(self.options.folder / "cache"))

    def log(self, text: str) -> None:
        """Print with the elapsed time."""
        print(f"[{time.monotonic() - self.started:5.0f} s] {text}", flush=True)


def prepare(study: Study) -> tuple[float, list[list[str]], set[int]]:
    """Teach the initial policy if none is given, and choose the labelled problems or take those of the given memory.

    Returns:
        its accuracy, its responses to each problem, and the numbers of the labelled problems.
    """
    options = study.options
    if options.policy is None:
        taught_policy(options.lessons, options.policy_seed).save_pretrained(study.start)
    policy = Qwen2ForCausalLM.from_pretrained(study.start)
    right = accuracy(policy, study.tokenizer, study.held_out)
    study.log(f"the policy at the start: {right:.3f} on held-out problems")
    texts = [problem.text for problem in study.problems]
    responses = respond(policy, study.tokenizer, texts, SAMPLES)
    if options.memory:
        known = labelled_queries(study.memory)
        labelled = {number for number, text in enumerate(texts) if query_id(text) in known}
    else:
        share = np.array([top_share(group) for group in responses])
        vectors = load_embedder(device="cpu").embed(texts)
        labelled = set(cover_queries(vectors, share, round(options.budget * len(texts))))
    write_rows(study, labelled)
    return right, responses, labelled


def write_rows(study: Study, labelled: set[int]) -> None:
    """Write the training data of the modes, in which only the labelled problems have gold answers."""
    options = study.options
    for mode in options.mode or DATA_MODES:
        queries = [
            SourceQuery(
                query_id(problem.text),
                problem.text,
                DATASET,
                f"problem-{number}",
                "math",
                str(problem.gold) if mode == "oracle" or number in labelled else None,
                "train",
            )
            for number, problem in enumerate(study.problems)
        ]
        batches = BatchPlan(size=options.queries_a_step, seed=options.seed) if mode == "memory" else None
        plan = DataPlan(budgets=(1.0,), modes=(mode,), seed=options.seed, batches=batches)
        write_data(queries, options.folder / f"data-{mode}", plan)


def fill_memory(study: Study, responses: list[list[str]], labelled: set[int]) -> None:
    """Add rollouts of the initial policy to the memory, with rewards for the labelled problems."""
    options = study.options
    rollouts = []
    for number, group in enumerate(responses):
        problem, key = study.problems[number], f"problem-{number}"
        query = {"query": problem.text, "query_id": key, "dataset": DATASET, "domain": "math"}
        for index, text in enumerate(group):
            label = {"reward": grade(text, problem.gold)} if number in labelled else {}
            made = {"policy": options.name, "run": f"{options.name}-start", "step": 0, "sample_index": index}
            rollouts.append({**query, **made, "response": text, **label})
    remember(study.memory, options.folder / "start.jsonl", rollouts)


def learn(study: Study, mode: str, rewards: RewardFunction) -> dict[int, float]:
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
            # The order of the file gives each batch its labelled half.
            shuffle_dataset=mode != "memory",
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
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    log = json.dumps(trainer.state.log_history, indent=1)
    (options.folder / f"{mode}.log.json").write_text(log + "\n", encoding="utf-8")
    study.log(f"{mode}: {'  '.join(f'step {step} {right:.3f}' for step, right in watch.curve.items())}")
    return watch.curve


def learn_from_memory(
    study: Study, responses: list[list[str]], labelled: set[int]
) -> tuple[dict[int, float], list[Quality]]:
    """Train with the memory's rewards and record rollouts; return accuracy by step and quality of predictions."""
    options = study.options
    fill_memory(study, responses, labelled)
    study.log(f"the reward model is trained: {train_model(study.memory, options.seed)}")
    ledger = Ledger(options.every, {f"problem-{n}": problem.gold for n, problem in enumerate(study.problems)})
    settings = ["--expected", SAMPLES, "--shaping", "residual", "--residual-weight", options.weight]
    retrain = ["--retrain", options.retrain, "--retrain-last-steps", 2 * options.retrain] if options.retrain else []
    with Service(study.memory, options.folder / "service.log", [*settings, *retrain]) as service:
        rewards = reward_function(
            service.client, num_generations=SAMPLES, policy=options.name, run=options.name, scale_rewards="none"
        )
        curve = learn(study, "memory", watched(rewards, ledger))
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
    parser.add_argument("--steps", type=int, default=80, help="steps of GRPO")
    parser.add_argument("--every", type=int, default=40, help="steps between two measurements")
    parser.add_argument("--retrain", type=int, default=20, help="steps between trainings of the reward model; 0: never")
    parser.add_argument("--queries-a-step", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--weight", type=float, default=4.0, help="factor of the residual reward")
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
        print("\nrewards of unlabelled problems against the truth; votes in brackets; gap where the majority is wrong")
        print(f"{'steps':<10}{'rollouts':>9}{'right':>7}{'advantage':>16}{'groups':>8}{'gap':>8}")
    for row in quality:
        advantage = f"{row.advantage:.3f} ({row.advantage_votes:.3f})"
        print(f"{row.steps:<10}{row.rollouts:>9}{row.right:>7.3f}{advantage:>16}{row.wrong:>8}{row.gap:>+8.3f}")


def main() -> None:
    """Train the initial policy, train it in each mode, and print the results."""
    options = parse_arguments()
    options.folder.mkdir(parents=True)
    torch.set_num_threads(1)
    rng, known = random.Random(1000 + options.seed), set[str]()
    problems, held_out = draw_problems(rng, options.problems, known), draw_problems(rng, options.held_out, known)
    study = Study(options, word_tokenizer(), problems, held_out, time.monotonic())
    right, responses, labelled = prepare(study)
    curves: dict[str, dict[int, float]] = {"start": {0: right}}
    quality: list[Quality] = []
    for mode in options.mode or DATA_MODES:
        if mode == "memory":
            curves[mode], quality = learn_from_memory(study, responses, labelled)
            continue
        with GroupScorer.open(mode=mode) as scorer:
            curves[mode] = learn(study, mode, reward_function(scorer, num_generations=SAMPLES))
    kept = {"accuracy": curves, "predictions": [row._asdict() for row in quality]}
    (options.folder / "curves.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print_table(curves, quality, len(held_out))


if __name__ == "__main__":
    main()
