"""kill -9 an ingest at random instants, run it again, and compare the memory with one that was left in peace.

    python benchmarks/kills.py [--kills 25] [--queries 1000] [--embedder hash|minilm]

An instant is a random share of the time that the undisturbed ingest took; one that comes after the end is drawn
again. Prints a line a kill; ends with 1 if any
memory differed.
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


def ingest(file: Path, location: Path, embedder: str) -> None:
    """The process that gets killed."""
    from memstore.ingest import IngestOptions
    from memstore.memory import Memory
    from memstore.testing.embedder import HashEmbedder

    given = HashEmbedder(dimension=384) if embedder == "hash" else None
    with Memory.open(location, create=True, embedder=given) as memory:
        print("open", flush=True)
        memory.ingest([file], IngestOptions(block_rows=1024))


def digest(location: Path, embedder: str) -> dict[str, str]:
    """What the memory holds, by part; and nothing may be left to verify."""
    from memstore.memory import Memory
    from memstore.testing.digest import memory_digest
    from memstore.testing.embedder import HashEmbedder

    with Memory.open(location, embedder=HashEmbedder(dimension=384) if embedder == "hash" else None) as memory:
        report = memory.verify()
        return {**memory_digest(memory), "verify": str(report.problems)}


def main() -> None:
    """Run the kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--queries", type=int, default=1000, help="8 rollouts each")
    parser.add_argument("--embedder", choices=("hash", "minilm"), default="hash")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        ingest(*arguments.child, arguments.embedder)
        return
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = make(folder, arguments.queries).path
        command = [sys.executable, __file__, "--embedder", arguments.embedder, "--child", str(file)]
        start = time.monotonic()
        subprocess.run([*command, str(folder / "whole")], check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - start
        expected = digest(folder / "whole", arguments.embedder)
        print(f"undisturbed: {whole:.1f} s, {expected}")
        different = killed = 0
        while killed < arguments.kills:
            location = folder / f"killed-{killed}"
            instant = rng.random() * whole
            start = time.monotonic()
            with subprocess.Popen([*command, str(location)], stdout=subprocess.DEVNULL) as child:
                try:
                    child.wait(instant)
                except subprocess.TimeoutExpired:
                    child.send_signal(signal.SIGKILL)
                else:
                    whole = min(whole, time.monotonic() - start)
                    shutil.rmtree(location)
                    continue
            killed += 1
            subprocess.run([*command, str(location)], check=True, stdout=subprocess.DEVNULL)
            found = digest(location, arguments.embedder)
            parts = [part for part in expected if found[part] != expected[part]]
            different += bool(parts)
            verdict = f"differs in {', '.join(parts)}" if parts else "equal"
            print(f"{killed:3} killed at {instant:6.2f} s: {verdict}", flush=True)
        print(f"{killed} kills, {different} memories differ from the undisturbed one")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
