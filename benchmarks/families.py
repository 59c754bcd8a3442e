"""Families of queries: quality of predictors where queries share steps, or differ in their numbers only.

    python benchmarks/families.py [--work FOLDER] [--predictors NAME ...] [--seeds 3] [--policy-seed 0]

Two sets, with eight rollouts a query, 20 % of the queries labelled, and figures on the rollouts of the others:

    steps      300 word problems of the sample, rollouts of its late checkpoint: problems of a setting share steps
    numbers    60 families of five problems that differ in their numbers only, rollouts of a policy that is trained here
               as the sample's was (four minutes of processor time); the labels are drawn by query, not by family

`--policy-seed` other than 0 makes both sets anew, with other problems and a policy that misreads other phrases.
`--work` keeps the sets, the memories and the figures; an interrupted run continues there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from memstore.sample import sample_path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "sample_rollouts"))
import make
from policy import Policy
from reward_quality import Plan, known_rows, measure_set, print_table, set_name
from task import AMOUNTS, STARTS, Problem, draw_problems, stays_in_range
from teacher import Teacher

PREDICTORS = ("vote_share", "knn", "label_propagation", "logistic", "paper", "without_lines", "memstore")
QUERIES, FAMILIES, VARIANTS = 300, 60, 5
STEPS = 6000
"""Training steps of the policy, as many as of the sample's late checkpoint."""
BUDGET = 0.2


def family(problem: Problem, rng: random.Random) -> Iterator[Problem]:
    """Yield the problem and then, without end, others with the same text except for the numbers."""
    known = {problem.text}
    yield problem
    while True:
        start = rng.choice(STARTS)
        steps = tuple(
            replace(step, amount=rng.choice(AMOUNTS)) if "#" in step.skill.phrase else step for step in problem.steps
        )
        numbers = iter([start, *(step.amount for step in steps if "#" in step.skill.phrase)])
        text = re.sub(r"\d+", lambda _: str(next(numbers)), problem.text)  # noqa: B023
        if text not in known and stays_in_range(start, ((step.skill.operation, step.amount) for step in steps)):
            known.add(text)
            yield Problem(problem.name, start, steps, text)


def draw_families(rng: random.Random) -> list[Problem]:
    """`FAMILIES` families of `VARIANTS` problems."""
    drawn = (family(problem, rng) for problem in draw_problems(rng, FAMILIES, set()))
    return [next(members) for members in drawn for _ in range(VARIANTS)]


def taught_policy(seed: int, path: Path) -> Policy:
    """Read the policy, or train it on demonstrations and write it."""
    torch.manual_seed(seed)
    tokenizer = make.make_tokenizer()
    policy = Policy(len(tokenizer.pieces))
    if path.exists():
        policy.load_state_dict(torch.load(path, weights_only=True))
        return policy
    make.train(policy, make.demonstrations(tokenizer, Teacher(seed), random.Random(seed)), STEPS, STEPS)
    torch.save(policy.state_dict(), path)
    return policy


def sample_set(path: Path) -> None:
    """Write the first `QUERIES` problems of the sample with the rollouts of the late checkpoint."""
    with gzip.open(sample_path(), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    late = max(row["step"] for row in rows)
    chosen = set(sorted({row["query_id"] for row in rows})[:QUERIES])
    make.write(path, (row for row in rows if row["step"] == late and row["query_id"] in chosen))


def policy_set(path: Path, problems: list[Problem], seed: int) -> None:
    """Write rollouts of the policy of a seed on these problems."""
    policy = taught_policy(seed, path.with_name(f"policy-{seed}.pt"))
    made = make.roll_out(policy, make.make_tokenizer(), problems, 0, f"policy-{seed}", STEPS, seed + STEPS)
    make.write(path, made)


def write_sets(folder: Path, seed: int) -> list[Path]:
    """Write the sets that are missing, and return their paths."""
    steps, numbers = (folder / f"{name}-{seed}.jsonl.gz" for name in ("steps", "numbers"))
    rng = random.Random(1000 + seed)
    if not steps.exists():
        if seed == 0:
            sample_set(steps)
        else:
            policy_set(steps, draw_problems(rng, QUERIES, set()), seed)
    if not numbers.exists():
        policy_set(numbers, draw_families(random.Random(2000 + seed)), seed)
    return [steps, numbers]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, help="folder that keeps sets, memories and figures; a temporary one by default"
    )
    parser.add_argument("--predictors", nargs="+", choices=PREDICTORS, default=PREDICTORS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the labels")
    parser.add_argument("--policy-seed", type=int, default=0, help="0 is the sample's")
    return parser.parse_args()


def main() -> None:
    options = parse()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        paths = write_sets(work, options.policy_seed)
        plan = Plan(work, work, QUERIES, tuple(options.predictors), (BUDGET,), tuple(range(options.seeds)), ())
        for path in paths:
            measure_set(plan, path)
        names = {set_name(path) for path in paths}
        rows = [row for row in known_rows(plan) if row.dataset in names and row.predictor in plan.predictors]
    print_table([row for row in rows if row.seed in plan.seeds])


if __name__ == "__main__":
    main()
