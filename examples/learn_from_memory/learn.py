"""A policy learns from memory: TRL's GRPO on CPU, ground truth for 20 % of the problems and the memory for the rest.

    python examples/learn_from_memory/learn.py --folder learnt

One policy, three trainings from the same start, on the same 400 problems of the sample's task:

    oracle     ground truth for all problems
    budget     ground truth for the labelled 20 %, which are all it trains on
    memory     ground truth for the same 20 %, and a reward model's prediction for the rest

The memory holds eight rollouts of each problem by the policy as it was at the start, and labels for the labelled ones
only; a reward model is trained on it. What is printed is greedy accuracy on problems that none of them saw, while they
train and at the end. It is one seed: a demonstration that the parts fit, not a comparison of methods.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "sample_rollouts"))

import torch
from datasets import Dataset
from task import Problem, draw_problems, grade
from transformers import Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from words import WordTokenizer, respond, taught_policy, word_tokenizer

from memstore.memory import Memory
from memstore_gnn.memory_verbs import train_memory
from memstore_rl.group import GroupScorer
from memstore_rl.rewards import MODES, Mode
from memstore_rl.trl import reward_function
from memstore_rl.verl.data import DataPlan, write_data
from memstore_rl.verl.source import SourceQuery

SAMPLES = 8
DATASET = "arithmetic"


def source(problems: list[Problem]) -> list[SourceQuery]:
    """The problems as queries to train on."""
    return [
        SourceQuery(f"problem-{n}", problem.text, DATASET, f"problem-{n}", "math", str(problem.gold), "train")
        for n, problem in enumerate(problems)
    ]


def fill_memory(
    folder: Path, data: Path, budget: float, policy: Qwen2ForCausalLM, tokenizer: WordTokenizer, problems: list[Problem]
) -> None:
    """A memory of what the policy writes at the start, rewards for the labelled problems, and a model trained on it."""
    rows = Dataset.from_parquet(str(data / f"train_memory_{budget * 100:g}.parquet"), cache_dir=str(folder / "cache"))
    labelled = {row["key"] for row in rows["extra_info"] if row["labelled"]}
    lines = []
    for number, responses in enumerate(respond(policy, tokenizer, [p.text for p in problems], SAMPLES)):
        key = f"problem-{number}"
        for index, response in enumerate(responses):
            told = {"reward": grade(response, problems[number].gold)} if key in labelled else {}
            row = {"query": problems[number].text, "query_id": key, "dataset": DATASET, "domain": "math"}
            lines.append({**row, "response": response, "run": "start", "step": 0, "sample_index": index, **told})
    file = folder / "start.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with Memory.open(folder / "memory", create=True) as memory:
        memory.ingest([file])
        train_memory(memory, device="cpu")


def accuracy(policy: Qwen2ForCausalLM, tokenizer: WordTokenizer, problems: list[Problem]) -> float:
    """Share of problems that the likeliest response solves."""
    responses = respond(policy, tokenizer, [problem.text for problem in problems], 1, greedy=True)
    return sum(grade(said[0], p.gold) for said, p in zip(responses, problems, strict=True)) / len(problems)


class Watch(TrainerCallback):
    """Measures the policy while it trains."""

    def __init__(self, every: int, tokenizer: WordTokenizer, problems: list[Problem]) -> None:
        self.curve: dict[int, float] = {}
        self._every, self._tokenizer, self._problems = every, tokenizer, problems

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            model.eval()
            self.curve[state.global_step] = accuracy(model, self._tokenizer, self._problems)
            model.train()


def learn(
    mode: Mode, options: argparse.Namespace, data: Path, memory: Path, start: Path, held_out: list[Problem]
) -> dict[int, float]:
    """Train the policy in a folder in one mode; its accuracy by step. TRL reads the folder again for KL."""
    tokenizer = word_tokenizer()
    file = data / ("train_oracle.parquet" if mode == "oracle" else f"train_{mode}_{options.budget * 100:g}.parquet")
    watch = Watch(options.every, tokenizer, held_out)
    with GroupScorer.open(memory, mode=mode, device="cpu", shaping=options.shaping) as scorer:
        trainer = GRPOTrainer(
            model=str(start),
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
                gradient_checkpointing=False,
                logging_steps=options.every,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=options.seed,
            ),
            reward_funcs=reward_function(scorer, num_generations=SAMPLES, policy="tiny", run=mode),
            train_dataset=Dataset.from_parquet(str(file), cache_dir=str(options.folder / "cache")),
            processing_class=tokenizer,
            callbacks=[watch],
        )
        trainer.train()
    return watch.curve


def parse_arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for the memory and the results")
    parser.add_argument("--problems", type=int, default=400, help="to train on")
    parser.add_argument("--held-out", type=int, default=500, help="to measure on")
    parser.add_argument("--budget", type=float, default=0.2, help="share of the problems that are labelled")
    parser.add_argument("--lessons", type=int, default=3000, help="batches of demonstrations before GRPO")
    parser.add_argument("--steps", type=int, default=300, help="of GRPO")
    parser.add_argument("--every", type=int, default=50, help="steps between two measurements")
    parser.add_argument("--queries-a-step", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--kl", type=float, default=0.05, help="how strongly the policy is held to its start")
    parser.add_argument("--shaping", default="probability", help="how a prediction becomes a reward")
    parser.add_argument("--mode", action="append", choices=MODES, help="one mode only; may be given again")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Teach, remember, train in each mode, print them side by side."""
    options = parse_arguments()
    options.folder.mkdir(parents=True)
    torch.set_num_threads(1)
    rng, known = random.Random(1000 + options.seed), set[str]()
    problems, held_out = draw_problems(rng, options.problems, known), draw_problems(rng, options.held_out, known)
    started, tokenizer = time.monotonic(), word_tokenizer()
    start = taught_policy(options.lessons, options.seed)
    curves: dict[str, dict[int, float]] = {"start": {0: accuracy(start, tokenizer, held_out)}}
    print(f"the policy at the start: {curves['start'][0]:.3f} ({time.monotonic() - started:.0f} s)", flush=True)
    data = options.folder / "data"
    write_data(source(problems), data, DataPlan(budgets=(options.budget,), seed=options.seed))
    start.save_pretrained(options.folder / "start")
    modes, memory = options.mode or MODES, options.folder / "memory"
    if "memory" in modes:
        fill_memory(options.folder, data, options.budget, start, tokenizer, problems)
        print(f"the memory is filled and its model trained ({time.monotonic() - started:.0f} s)", flush=True)
    for mode in modes:
        curves[mode] = learn(mode, options, data, memory, options.folder / "start", held_out)
        print(f"{mode}: {json.dumps(curves[mode])} ({time.monotonic() - started:.0f} s)", flush=True)
    (options.folder / "curves.json").write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    print(f"\n{'mode':<8} accuracy on held-out problems\n{'start':<8} {curves['start'][0]:.3f}")
    for mode in modes:
        print(f"{mode:<8} {list(curves[mode].values())[-1]:.3f}")


if __name__ == "__main__":
    main()
