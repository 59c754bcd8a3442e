"""A reembed that is killed (kill -9) just before a given call.

    python -m memstore.testing.conformance.killed_reembed LOCATION DIMENSION STEP COUNT

moves the memory at LOCATION to `HashEmbedder(DIMENSION)` and is killed before the COUNT-th call of STEP. It runs in
its own process, so that files, locks, connections and partial collections are left behind as after a crash.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any, NoReturn

from memstore.embedding.cache import VectorCache
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder


def kill_reembed(location: str, dimension: int, step: str, count: int) -> None:
    """Run a reembed in its own process and check that it is killed.

    Raises:
        AssertionError: it was not killed; the message has its stderr.
    """
    command = [sys.executable, "-m", __name__, location, str(dimension), step, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, (command, done.returncode, done.stderr)


def _dies_before(owner: Any, method: str, count: int) -> None:
    """Kill this process before the `count`-th call of a method."""
    call, calls = getattr(owner, method), iter(range(1, count))

    def counted(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    setattr(owner, method, counted)


def main() -> NoReturn:
    """Reembed until the given call."""
    location, dimension, step, count = sys.argv[1:]
    with Memory.open(location) as memory:
        owner, method = {
            "cache": (VectorCache, "append"),
            "vectors": (type(memory.vectors), "upsert"),
            "flush": (type(memory.vectors), "flush"),
            "meta": (memory.graph, "write_meta"),
            "links": (memory.graph, "replace_links"),
            "discard": (type(memory.vectors), "discard"),
        }[step]
        _dies_before(owner, method, int(count))
        memory.reembed(HashEmbedder(dimension=int(dimension)))
    sys.exit(f"it has reembedded all, with fewer than {count} calls of {step}")


if __name__ == "__main__":
    main()
