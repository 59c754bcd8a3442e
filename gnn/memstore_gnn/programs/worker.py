"""Run programs in worker processes: `outcomes` in the parent, `python -m memstore_gnn.programs.worker` in the child.

The interpreter keeps a program from doing harm. The process and its limits are for a program that blocks the
interpreter itself, e.g. by comparing a tuple that contains itself twice, forty levels deep. Its CPU time is limited
twice: an alarm in Python ends most programs, and a signal that the kernel delivers kills the worker if the program is
inside one long operation. The outcomes of such a program are unknown, and other programs are not affected.

The programs of a group share one budget. Each first gets `SLICE_SECONDS`, which is ample; those that need more then
get `CPU_SECONDS` one after the other, until the group has used up `GROUP_SECONDS`. Budgets count limits that were
reached and no measured times, so that they depend little on the machine. Outcomes are cached by a digest of the
program and its calls: a program that was killed once does not run again in this process.

The hash seed of the child is fixed, so outcomes do not depend on PYTHONHASHSEED of the parent.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from memstore.errors import ModelError
from memstore.runtime.processes import WorkerError, WorkerPool, serve
from memstore_gnn.programs.limits import CPU_TIME, TooMuch
from memstore_gnn.programs.outcomes import UNKNOWN, Task, run_task

MEMORY_BYTES = 1 << 30
"""Address space of a worker."""
SLICE_SECONDS = 0.5
"""CPU time that every program gets with all its calls. The step limit ends a program before, except in slow
operations."""
CPU_SECONDS = 2.0
"""CPU time of a program that needs more, within the budget of its group."""
GRACE_SECONDS = 0.5
"""CPU time after a limit after which the kernel kills the worker."""
GROUP_SECONDS = 8.0
"""CPU time of the programs of one group that reach a limit."""
RESPONSE_SECONDS = 30.0
"""Wall time after which a worker that has not answered is killed: one that the machine has stopped."""
TASKS_PER_WORKER = 100
"""Tasks for which a worker process is worth its start."""
OPEN_FILES = 16
"""Open files of a worker."""
CACHED_OUTCOMES = 50_000
"""Programs whose outcomes are cached, the latest ones."""
COMMAND = ("/usr/bin/env", "PYTHONHASHSEED=0", sys.executable, "-m", "memstore_gnn.programs.worker")

_cache: OrderedDict[bytes, list[str]] = OrderedDict()
_cache_lock = threading.Lock()


def outcomes(tasks: Sequence[Task], groups: Sequence[int] | None = None) -> list[list[str]]:
    """Run programs and return the outcomes of each one's calls, see `memstore_gnn.programs.outcomes`.

    Args:
        groups: the group of each task, which shares a budget; None gives each task a budget of its own.

    Raises:
        ModelError: a worker process does not start.
    """
    keys = [hashlib.blake2b(json.dumps(task).encode(), digest_size=16).digest() for task in tasks]
    with _cache_lock:
        found = {position: _cache[key] for position, key in enumerate(keys) if key in _cache}
    members: dict[int, list[int]] = {}
    for position in range(len(tasks)):
        if position not in found:
            members.setdefault(position if groups is None else groups[position], []).append(position)
    if members:
        ran = _run_all([[(position, tasks[position]) for position in group] for group in members.values()])
        with _cache_lock:
            _cache.update((keys[position], results) for position, results in ran.items())
            while len(_cache) > CACHED_OUTCOMES:
                _cache.popitem(last=False)
        found |= ran
    return [found.get(position, [UNKNOWN] * len(task.arguments)) for position, task in enumerate(tasks)]


def _run_all(groups: Sequence[Sequence[tuple[int, Task]]]) -> dict[int, list[str]]:
    """Outcomes by position, without the programs that did not run because their group's budget was used up."""
    count = max(1, min(os.cpu_count() or 1, sum(map(len, groups)) // TASKS_PER_WORKER))
    pool = WorkerPool(COMMAND, count)
    found: dict[int, list[str]] = {}
    try:
        with ThreadPoolExecutor(count) as threads:
            for ran in threads.map(lambda group: _run_group(pool, group), groups):
                found.update(ran)
    except WorkerError as error:
        raise ModelError(f"the interpreter of programs is not available: {error}") from error
    finally:
        pool.close()
    return found


def _run_group(pool: WorkerPool, group: Sequence[tuple[int, Task]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    left, waiting = GROUP_SECONDS, list(group)
    for limit in (SLICE_SECONDS, CPU_SECONDS):
        over = []
        for position, task in waiting:
            if left < limit:
                break
            (response,) = pool.request_all([json.dumps([limit, *task]).encode()], RESPONSE_SECONDS)
            results = None if response is None else json.loads(response)
            if results is None:
                over.append((position, task))
                left -= limit
            # Programs that reached the first limit stay unknown if no budget is left for the second.
            found[position] = [UNKNOWN] * len(task.arguments) if results is None else results
        waiting = over
    return found


def _handle(request: str) -> str:
    """Run one task within a CPU time; null if it needs more."""
    limit, *fields = json.loads(request)
    found: list[str] | None = None
    try:
        signal.setitimer(signal.ITIMER_PROF, limit + GRACE_SECONDS)
        signal.setitimer(signal.ITIMER_VIRTUAL, limit)
        found = run_task(Task(*fields))
    except TooMuch:
        pass
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return json.dumps(found)


def _raise_out_of_time(number: int, frame: FrameType | None) -> None:
    raise TooMuch(CPU_TIME)


def main() -> None:
    """Serve tasks until the input ends."""
    signal.signal(signal.SIGVTALRM, _raise_out_of_time)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # kills the process, in the middle of any operation
    serve(_handle, memory_bytes=MEMORY_BYTES, open_files=OPEN_FILES)


if __name__ == "__main__":
    main()
