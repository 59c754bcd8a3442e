"""Kill an ingest (SIGKILL) at random instants, run it again, and compare the memory with an undisturbed one.

    python benchmarks/killed_ingest.py [--kills 25] [--queries 1000] [--embedder hash|minilm]

An instant is a random share of the time of the undisturbed ingest. It is drawn again if the ingest ends earlier. Prints
one line for each kill and exits with 1 if any memory differs. `server_faults.py` tests the faults of servers, with the
ingesting process of this script.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import make

BEGUN = "begun"
REFUSED = 3
"""Exit status of an ingest that failed with a MemstoreError."""


def command(files: list[Path], location: str, embedder: str, block_rows: int) -> list[str]:
    """The process that gets killed: an ingest of `files` into the memory at `location`."""
    options = ["--embedder", embedder, "--block-rows", str(block_rows)]
    return [sys.executable, __file__, *options, "--child", location, *map(str, files)]


def ingest(files: list[str], location: str, embedder: str, block_rows: int) -> None:
    """Ingest the files; print `BEGUN` before the memory is opened."""
    from memstore.errors import MemstoreError
    from memstore.memory import Memory
    from memstore.pipeline.ingest import IngestOptions
    from memstore.testing.doubles.embedder import HashEmbedder

    given = HashEmbedder(dimension=384) if embedder == "hash" else None
    print(BEGUN, flush=True)
    try:
        with Memory.open(location, create=True, embedder=given) as memory:
            memory.ingest(files, IngestOptions(block_rows=block_rows))
    except MemstoreError as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)


def digest(location: str, embedder: str) -> dict[str, str]:
    """Digests of the memory by part, and what `verify` finds."""
    from memstore.memory import Memory
    from memstore.testing.conformance.digest import memory_digest
    from memstore.testing.doubles.embedder import HashEmbedder

    with Memory.open(location, embedder=HashEmbedder(dimension=384) if embedder == "hash" else None) as memory:
        report = memory.verify()
        return {**memory_digest(memory), "verify": str(report.problems)}


def kill_and_compare(folder: Path, queries: int, kills: int, embedder: str, rng: random.Random) -> int:
    """Kill `kills` ingests into memories in `folder`; return how many memories differ from the undisturbed one."""
    files = [make(folder, queries).path]
    start = time.monotonic()
    subprocess.run(command(files, f"{folder}/whole", embedder, 1024), check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - start
    expected = digest(f"{folder}/whole", embedder)
    print(f"undisturbed: {whole:.1f} s, {expected}")
    different = killed = 0
    while killed < kills:
        location = f"{folder}/killed-{killed}"
        again = command(files, location, embedder, 1024)
        instant = rng.random() * whole
        start = time.monotonic()
        with subprocess.Popen(again, stdout=subprocess.DEVNULL) as child:
            try:
                child.wait(instant)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
            else:
                whole = min(whole, time.monotonic() - start)
                shutil.rmtree(location)
                continue
        killed += 1
        subprocess.run(again, check=True, stdout=subprocess.DEVNULL)
        found = digest(location, embedder)
        parts = [part for part in expected if found[part] != expected[part]]
        different += bool(parts)
        verdict = f"differs in {', '.join(parts)}" if parts else "equal"
        print(f"{killed:3} killed at {instant:6.2f} s: {verdict}", flush=True)
    print(f"{killed} kills, {different} memories differ from the undisturbed one")
    return different


def main() -> None:
    """Run the kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--queries", type=int, default=1000, help="8 rollouts each")
    parser.add_argument("--embedder", choices=("hash", "minilm"), default="hash")
    parser.add_argument("--block-rows", type=int, default=1024, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs="+", metavar=("LOCATION", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        location, *files = arguments.child
        ingest(files, location, arguments.embedder, arguments.block_rows)
        return
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(bool(kill_and_compare(Path(folder), arguments.queries, arguments.kills, arguments.embedder, rng)))


if __name__ == "__main__":
    main()
