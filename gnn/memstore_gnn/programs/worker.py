"""Run programs in worker processes: `outcomes` in the parent, `python -m memstore_gnn.programs.worker` in the child.

The interpreter keeps a program from doing harm. The process and its limits are for a program that blocks the
interpreter itself, e.g. by printing a tuple that contains itself twice, forty levels deep. The outcomes of such a
program are unknown, and the tasks of other programs are not affected.

The hash seed of the child is fixed, so outcomes do not depend on PYTHONHASHSEED of the parent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from memstore.errors import ModelError
from memstore.runtime.processes import WorkerError, WorkerPool, serve
from memstore_gnn.programs.limits import CPU_TIME, TooMuch
from memstore_gnn.programs.outcomes import UNKNOWN, Task, run_task

MEMORY_BYTES = 1 << 30
"""Address space of a worker."""
CPU_SECONDS = 2.0
"""CPU time of one program with all its calls. The step limit ends a program long before, except in slow operations."""
RESPONSE_SECONDS = 10.0
"""Wall time after which a worker that has not answered is killed."""
TASKS_PER_WORKER = 100
"""Tasks for which a worker process is worth its start."""
OPEN_FILES = 16
"""Open files of a worker."""
COMMAND = ("/usr/bin/env", "PYTHONHASHSEED=0", sys.executable, "-m", "memstore_gnn.programs.worker")


def outcomes(tasks: Sequence[Task]) -> list[list[str]]:
    """Run programs and return the outcomes of each one's calls, see `memstore_gnn.programs.outcomes`.

    Raises:
        ModelError: a worker process does not start.
    """
    if not tasks:
        return []
    pool = WorkerPool(COMMAND, max(1, min(os.cpu_count() or 1, len(tasks) // TASKS_PER_WORKER)))
    try:
        responses = pool.request_all([json.dumps(task).encode() for task in tasks], RESPONSE_SECONDS)
    except WorkerError as error:
        raise ModelError(f"the interpreter of programs is not available: {error}") from error
    finally:
        pool.close()
    return [
        json.loads(response) if response is not None else [UNKNOWN] * len(task.arguments)
        for task, response in zip(tasks, responses, strict=True)
    ]


def _handle(request: str) -> str:
    """Run one task within `CPU_SECONDS`."""
    task = Task(*json.loads(request))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        found = run_task(task)
    except TooMuch:
        found = [UNKNOWN] * len(task.arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return json.dumps(found)


def _raise_out_of_time(number: int, frame: FrameType | None) -> None:
    raise TooMuch(CPU_TIME)


def main() -> None:
    """Serve tasks until the input ends."""
    signal.signal(signal.SIGPROF, _raise_out_of_time)
    serve(_handle, memory_bytes=MEMORY_BYTES, open_files=OPEN_FILES)


if __name__ == "__main__":
    main()
