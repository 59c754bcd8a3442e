"""Six concurrent ingests of overlapping files into one memory on servers, compared with a single ingest.

    NEO4J_HOME=DIR python benchmarks/writers.py [--queries 200] [--times 3]

Needs the package `milvus` (see `memstore.testing.servers.milvus`). Every rollout is in two of the six files, and every
process starts at the same time. The memories must be equal by digest, `verify` must find nothing, and every process
must end well. Vectors are hashed, not embedded.

Prints a line a run and one table; ends with 1 if a memory differed or a process failed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from kills import command, digest
from server_pair import LOCATION, Pair, named, running
from synthetic import ROLLOUTS_A_QUERY, make

WRITERS = 6
BLOCK_ROWS = 256


class Run(NamedTuple):
    """One way of ingesting all files into a new memory."""

    seconds: float
    failed: list[str]
    """Last output lines of the processes that failed."""
    digest: dict[str, str]


def overlapping(file: Path) -> list[Path]:
    """The rows of a file in six parts, each row in two of them; neighbouring parts share queries."""
    rows = file.read_text().splitlines(keepends=True)
    shares = [rows[number::WRITERS] for number in range(WRITERS)]
    files = []
    for number, share in enumerate(shares):
        files.append(file.with_name(f"share-{number}.jsonl"))
        files[-1].write_text("".join([*share, *shares[(number + 1) % WRITERS]]))
    return files


def ingest(pair: Pair, portions: list[list[Path]]) -> Run:
    """Ingest these files concurrently, with one process per portion."""
    environment = pair.environment()
    start = time.monotonic()
    processes = [
        subprocess.Popen(
            command(files, LOCATION, "hash", BLOCK_ROWS),
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for files in portions
    ]
    failed = []
    for process in processes:
        _, said = process.communicate()
        if process.returncode:
            failed.append(said.strip())
    seconds = time.monotonic() - start
    with named(environment):
        return Run(seconds, failed, digest(LOCATION, "hash"))


def main() -> None:
    """Run both variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200, help="8 rollouts each")
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    well = True
    seconds: dict[str, list[float]] = {"one": [], "six at once": []}
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as pair:
        files = overlapping(make(Path(name), arguments.queries).path)
        expected = ingest(pair, [files]).digest  # the servers' first ingest is slower than all others
        for number in range(1, arguments.times + 1):
            for writers, portions in (("one", [files]), ("six at once", [[file] for file in files])):
                run = ingest(pair, portions)
                differs = [part for part in expected if run.digest[part] != expected[part]]
                well = well and not differs and not run.failed
                seconds[writers].append(run.seconds)
                verdict = f"differs in {', '.join(differs)}" if differs else "equal"
                print(f"{writers} {number}: {run.seconds:.1f} s, {verdict}", *run.failed, sep="\n  ", flush=True)
    print(f"| writers | {arguments.queries * ROLLOUTS_A_QUERY:,} rollouts, each in two files: median s |")
    print("|---|---|", *(f"| {name} | {statistics.median(each):.1f} |" for name, each in seconds.items()), sep="\n")
    sys.exit(not well)


if __name__ == "__main__":
    main()
