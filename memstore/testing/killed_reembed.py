"""A reembed that ends with kill -9 just before a certain call: at the same instant, whatever the machine does.

    python -m memstore.testing.killed_reembed LOCATION DIMENSION STEP COUNT

moves the memory at LOCATION to `HashEmbedder(DIMENSION)` and dies before the COUNT-th call of STEP. A process of its
own, so that what a dead process leaves behind is really left: files, locks, connections, half of a collection.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any, NoReturn

from memstore.embedding.cache import VectorCache
from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder


def kill_reembed(location: str, dimension: int, step: str, count: int) -> None:
    """Run one in a process of its own and see it die.

    Raises:
        AssertionError: it did not; its last words are in the message.
    """
    command = [sys.executable, "-m", __name__, location, str(dimension), step, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, (command, done.returncode, done.stderr)


def _dies_before(owner: Any, method: str, count: int) -> None:
    """From now on the `count`-th call of a method is never made."""
    call, calls = getattr(owner, method), iter(range(1, count))

    def counted(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    setattr(owner, method, counted)


def main() -> NoReturn:
    """Reembed, and die on the way."""
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
