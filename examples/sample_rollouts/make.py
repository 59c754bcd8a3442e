"""Make the sample data: train a tiny policy, sample rollouts from two of its checkpoints, grade and write them.

    python make.py --output arithmetic.jsonl.gz --new arithmetic_new.jsonl.gz

`--output` gets `--queries` problems with eight rollouts from each checkpoint, `--new` other problems with eight
rollouts from the last one. Everything is drawn from `--seed`; the same command on the same machine writes the same
bytes. Rollouts are sampled from the policy at temperature 1 and are not edited.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from policy import Policy, Sample, Tokenizer
from task import Problem, draw_problem, draw_problems, grade, texts
from teacher import SHOWN, Teacher

POLICY = "tiny-arithmetic"
SAMPLES = 8
BATCH = 16
POOL = 64
"""Number of batches drawn at once, so that a batch holds demonstrations of similar length."""
RATE = 2e-3
WARM_UP = 100
SAMPLED_TOGETHER = 32

Rollout = dict[str, Any]
Pair = tuple[list[int], list[int]]


def make_tokenizer() -> Tokenizer:
    """A tokenizer whose vocabulary covers all problems and responses."""
    shown = [f"{words} {sign}" for words, sign in SHOWN.values()]
    return Tokenizer([*texts(), *shown, "all, so: = .\n####"])


def demonstrations(tokenizer: Tokenizer, teacher: Teacher, rng: random.Random) -> Iterator[list[Pair]]:
    """Yield batches of new problems with the teacher's solutions, without end."""
    while True:
        problems = [draw_problem(rng) for _ in range(POOL * BATCH)]
        pairs = [(tokenizer.encode(p.text), tokenizer.encode(teacher.demonstrate(p, rng))) for p in problems]
        pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
        batches = [pairs[i : i + BATCH] for i in range(0, len(pairs), BATCH)]
        rng.shuffle(batches)
        yield from batches


def train(policy: Policy, batches: Iterable[list[Pair]], early: int, late: int) -> Policy:
    """Train in place for `late` steps; return a copy of the policy after `early` steps."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.01, betas=(0.9, 0.98))
    checkpoint = policy
    started, worked = time.monotonic(), time.process_time()
    for step, pairs in enumerate(islice(batches, late), 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / WARM_UP) * (0.51 + 0.49 * math.cos(math.pi * step / late))
        loss = policy.loss(pairs)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        if step % 500 == 0 or step == late:
            spent = f"{time.monotonic() - started:.0f} s, {time.process_time() - worked:.0f} s of processor time"
            print(f"step {step} of {late}: loss {loss.item():.3f}, {spent}", flush=True)
        if step == early:
            checkpoint = copy.deepcopy(policy)
    return checkpoint


def sample_all(policy: Policy, tokenizer: Tokenizer, problems: list[Problem], seed: int) -> list[list[Sample]]:
    """Sample SAMPLES responses to each problem. Problems with prompts of equal length are sampled together."""
    generator = torch.Generator().manual_seed(seed)
    by_length = defaultdict(list)
    for index, problem in enumerate(problems):
        prompt = tokenizer.encode(problem.text)
        by_length[len(prompt)].append((index, prompt))
    groups: list[list[Sample]] = [[] for _ in problems]
    for length in sorted(by_length):
        for first in range(0, len(by_length[length]), SAMPLED_TOGETHER):
            part = by_length[length][first : first + SAMPLED_TOGETHER]
            samples = policy.sample([prompt for _, prompt in part], SAMPLES, generator)
            for position, (index, _) in enumerate(part):
                groups[index] = samples[position * SAMPLES : (position + 1) * SAMPLES]
    return groups


def roll_out(
    policy: Policy, tokenizer: Tokenizer, problems: list[Problem], first_id: int, run: str, step: int, seed: int
) -> Iterator[Rollout]:
    """Yield graded rollouts of the problems, whose ids start at `first_id`."""
    for number, (problem, samples) in enumerate(
        zip(problems, sample_all(policy, tokenizer, problems, seed), strict=True), first_id
    ):
        for index, sample in enumerate(samples):
            response = tokenizer.decode(sample.tokens)
            yield {
                "query_id": f"arithmetic/{number:04d}",
                "dataset": "arithmetic",
                "domain": "math",
                "query": problem.text,
                "gold": str(problem.gold),
                "response": response,
                "policy": POLICY,
                "run": run,
                "step": step,
                "sample_index": index,
                "reward": grade(response, problem.gold),
                "mean_logprob": round(sample.mean_logprob, 5),
                "finish_reason": sample.finish_reason,
            }


def write(path: Path, rollouts: Iterable[Rollout]) -> None:
    """Write JSON lines, gzipped without name and time, so that equal rollouts give equal bytes."""
    text = "".join(json.dumps(rollout) + "\n" for rollout in rollouts)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def parse_arguments() -> argparse.Namespace:
    """The options. The defaults make the shipped files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="file for the rollouts of both checkpoints")
    parser.add_argument("--new", type=Path, help="file for rollouts of fresh problems by the last checkpoint")
    parser.add_argument("--early", type=int, default=2400, help="training steps of the first checkpoint")
    parser.add_argument("--late", type=int, default=6000, help="training steps of the last checkpoint")
    parser.add_argument("--queries", type=int, default=400, help="problems in --output")
    parser.add_argument("--new-queries", type=int, default=40, help="problems in --new")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more can be slower, and may change the last bits")
    return parser.parse_args()


def main() -> None:
    """Train, sample, grade, write."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = make_tokenizer()
    rng = random.Random(options.seed)
    known: set[str] = set()
    problems = draw_problems(rng, options.queries, known)
    fresh = draw_problems(rng, options.new_queries, known)
    late = Policy(len(tokenizer.pieces))
    early = train(late, demonstrations(tokenizer, Teacher(options.seed), rng), options.early, options.late)
    run = f"{POLICY}-seed{options.seed}"
    rollouts = [
        rollout
        for policy, step in ((early, options.early), (late, options.late))
        for rollout in roll_out(policy, tokenizer, problems, 0, run, step, options.seed + step)
    ]
    write(options.output, rollouts)
    if options.new:
        seed = options.seed + options.late + 1
        write(options.new, roll_out(late, tokenizer, fresh, len(problems), run, options.late, seed))


if __name__ == "__main__":
    main()
