"""What a policy learns from rewards of a memory: GRPO on the sample's task, one training a seed and mode.

    python benchmarks/policy_learning.py --folder F [--seeds 1 2 3] [--modes oracle budget memory ...] [--processes 2]

A tiny transformer is taught the task of examples/sample_rollouts by a noisy teacher. Then TRL's `GRPOTrainer` trains it
from there in each mode, on the same problems, with rewards of `memstore_rl.trainers.trl`:

    oracle              ground truth for every problem
    budget-random       ground truth for 20 % of the problems, drawn at random; trains on these only
    budget              the same with 20 % chosen from the start policy's rollouts (`cover_queries`)
    memory-before       20 % at random; the reward model's probability for the others; batches as they come
    paper               the same with the probability of the paper's network, trained once on the start's rollouts
    memory-random       20 % at random; residual reward; half of each batch labelled
    memory-probability  20 % chosen; the reward model's probability; half of each batch labelled
    memory              20 % chosen; residual reward of weight 4; half of each batch labelled
    memory-weight-1     the same with weight 1
    memory-by-success   the same with weight 4 times the mean probability of the group
    verdict-N           no labels; mode verdict with N verifier calls a step (2, 4, 8, 16 or 25)

`--teacher poor` and `--teacher strong` begin with a worse and a better policy. With `--covered N`, labels are chosen
from the problems of N of the task's 16 settings, so that they leave the skills of the others out.

A figure is the greedy accuracy on held-out problems at the last step. Each training is a process with a result file,
`F/seed-SEED/MODE.json`. The command can be repeated: finished trainings are kept, an interrupted one begins again. It
prints a table of all results and draws `F/policy_learning.png`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, fields
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "sample_rollouts"))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "learn_from_memory"))
from policy_learning_study import Options, Study
from policy_learning_table import draw, read_results, table

Train = Callable[[Study, str, Path], dict[str, Any]]
"""`policy_learning_run.train`, which imports the trainer."""


def result_file(folder: Path, seed: int, mode: str) -> Path:
    """The result of one training."""
    return folder / f"seed-{seed}" / f"{mode}.json"


def run_one(train: Train, study: Study, mode: str) -> None:
    """Train in this process and write the result and a log; `start` only prepares the seed."""
    study.home.mkdir(parents=True, exist_ok=True)
    with (study.home / f"{mode}.log").open("w", encoding="utf-8", buffering=1) as log, redirect_stdout(log):
        study.prepare()
        if mode == "start":
            return
        file, work = result_file(study.folder, study.seed, mode), study.home / mode
        if work.exists():
            shutil.rmtree(work)
        result = train(study, mode, work)
    half_written = file.with_suffix(".part")
    half_written.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    half_written.rename(file)
    shutil.rmtree(work)


def run_all(options: argparse.Namespace, numbers: Options, kind: type[Study]) -> list[str]:
    """Run each training without a result in a process of its own; return a sentence for each that failed."""
    check_options(options, numbers)
    work = [
        (seed, mode)
        for seed in options.seeds
        for mode in options.modes
        if not result_file(options.folder, seed, mode).exists()
    ]
    if not work:
        return []
    from policy_learning_run import train  # once, before the forks; it takes seconds

    studies = {seed: kind(options.folder, seed, numbers) for seed, _ in work}
    starts = run_processes(train, [(studies[seed], "start") for seed in studies], options.processes)
    return starts + run_processes(train, [(studies[seed], mode) for seed, mode in work], options.processes)


def run_processes(train: Train, work: Sequence[tuple[Study, str]], processes: int) -> list[str]:
    """Fork a process for each of `work`, at most `processes` at a time."""
    context, waiting, failed = get_context("fork"), list(work), list[str]()
    running: dict[int, tuple[BaseProcess, str]] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            study, mode = waiting.pop(0)
            process = context.Process(target=run_one, args=(train, study, mode))
            process.start()
            running[process.sentinel] = process, f"seed {study.seed}, {mode}"
        for sentinel in wait(list(running)):
            process, name = running.pop(int(sentinel))  # type: ignore[call-overload]
            process.join()
            print(f"{name}: {'done' if process.exitcode == 0 else 'failed'}", flush=True)
            failed += [f"{name} failed; its error is above"] if process.exitcode else []
    return failed


def check_options(options: argparse.Namespace, numbers: Options) -> None:
    """Stop if the folder has results of other settings."""
    file = options.folder / "options.json"
    made = json.loads(json.dumps(asdict(numbers)))
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    elif json.loads(file.read_text(encoding="utf-8")) != made:
        raise SystemExit(f"{file} has other settings; use the same settings or another folder")


def parse_arguments(description: str | None, kind: type[Study], numbers: type[Options]) -> argparse.Namespace:
    """The options; those of `numbers` under their names."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--modes", nargs="+", choices=list(kind.recipes), default=list(kind.recipes), metavar="MODE")
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time; each uses one core")
    parser.add_argument("--show", action="store_true", help="start nothing; print the table of the results there are")
    for field in fields(numbers):
        of: Any = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=of, default=field.default, metavar="VALUE")
    return parser.parse_args()


def main(description: str | None, kind: type[Study], numbers: type[Options]) -> None:
    """Train what has no result, print the table, draw the plot."""
    options = parse_arguments(description, kind, numbers)
    given = numbers(**{field.name: getattr(options, field.name) for field in fields(numbers)})
    failed = [] if options.show else run_all(options, given, kind)
    results = read_results(options.folder, options.seeds, options.modes)
    print(table(results))
    draw(results, options.folder / "policy_learning.png")
    if failed:
        raise SystemExit("\n".join(failed))


if __name__ == "__main__":
    main(__doc__, Study, Options)
