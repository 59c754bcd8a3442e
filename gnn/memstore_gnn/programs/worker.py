"""Run programs in worker processes: `outcomes` in the parent, `python -m memstore_gnn.programs.worker` in the child.

The interpreter keeps a program from doing harm. The process and its limits are for a program that blocks the
interpreter itself, e.g. by comparing a tuple that contains itself twice, forty levels deep. A worker runs programs in a
forked child, which the kernel kills at its limit of CPU time. The outcomes of that program are unknown, and other
programs are not affected.

The programs of a group share one budget of CPU time, `GROUP_SECONDS`. All first get the shortest of `LIMITS`; those
that need more then get the next one, so that expensive programs take nothing from the others of their group. A group
gives its worker back after `TURN_SECONDS`, and the group that has used the least is next: groups of expensive programs
delay another group by one turn each.

Outcomes are cached by a digest of the program and its calls; those that the group's budget decided, by a digest of the
group, too. A program that was killed does not run again in this process.

The hash seed of the child is fixed, so outcomes do not depend on PYTHONHASHSEED of the parent.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from memstore.errors import ModelError
from memstore.runtime.fair_queue import TURN_SECONDS, CpuAccount
from memstore.runtime.processes import WorkerError, WorkerPool, run_forked, serve
from memstore_gnn.programs.outcomes import UNKNOWN, Task, run_task

MEMORY_BYTES = 1 << 30
"""Address space of a worker."""
LIMITS = (0.05, 0.5, 2.0)
"""CPU seconds that a program gets with all its calls, one limit after the other until it ends. The step limit of the
interpreter ends a program before the second one, except in slow operations."""
GROUP_SECONDS = 8.0
"""CPU seconds of the programs of one group."""
MIN_SECONDS = 0.005
"""CPU seconds that are worth a start."""
RESPONSE_SECONDS = 120.0
"""Wall time after which a worker that has not answered is killed: one that the machine has stopped."""
ATTEMPTS = 2
"""A request is repeated once if its worker was lost."""
MAX_WORKERS = 8
"""Worker processes, at most one per CPU."""
CONCURRENT_GROUPS = 32
"""Groups of one call that wait for workers at the same time."""
OPEN_FILES = 16
"""Open files of a worker."""
CACHED_OUTCOMES = 50_000
"""Programs whose outcomes are cached, the latest ones."""
COMMAND = ("/usr/bin/env", "PYTHONHASHSEED=0", sys.executable, "-m", "memstore_gnn.programs.worker")

_cache: OrderedDict[bytes, list[str]] = OrderedDict()
_cache_lock = threading.Lock()
_pools: dict[int, WorkerPool] = {}
"""By process id: a forked process starts workers of its own."""


def outcomes(tasks: Sequence[Task], groups: Sequence[int] | None = None) -> list[list[str]]:
    """Run programs and return the outcomes of each one's calls, see `memstore_gnn.programs.outcomes`.

    Args:
        groups: the group of each task, which shares a budget; None gives each task a budget of its own.

    Raises:
        ModelError: a worker process does not start.
    """
    members: dict[int, list[int]] = {}
    for position in range(len(tasks)):
        members.setdefault(position if groups is None else groups[position], []).append(position)
    found: dict[int, list[str]] = {}
    pending: list[_Group] = []
    for positions in members.values():
        group = _Group({position: tasks[position] for position in positions})
        found |= group.cached()
        if group.tasks:
            pending.append(group)
    if pending:
        try:
            with ThreadPoolExecutor(min(CONCURRENT_GROUPS, len(pending))) as threads:
                for ran in threads.map(_Group.run, pending):
                    found |= ran
        except WorkerError as error:
            raise ModelError(f"the interpreter of programs is not available: {error}") from error
    return [found[position] for position in range(len(tasks))]


def _pool() -> WorkerPool:
    """The workers of this process. They start when they are needed, and end with it."""
    return _pools.setdefault(os.getpid(), WorkerPool(COMMAND, min(MAX_WORKERS, os.cpu_count() or 1)))


@atexit.register
def _kill_workers() -> None:
    if os.getpid() in _pools:
        for worker in _pool().workers:
            worker.kill()


class _Group:
    """The programs of one group, by position, and what they have used."""

    def __init__(self, tasks: dict[int, Task]) -> None:
        self.tasks = dict(tasks)
        self._account = CpuAccount()
        self._found: dict[int, list[str]] = {}
        self._keys = {position: _digest(task) for position, task in tasks.items()}
        self._of_group = _digest(*sorted(key.hex() for key in set(self._keys.values()))).hex()

    def cached(self) -> dict[int, list[str]]:
        """Return the outcomes that are known, and drop their tasks."""
        known = {}
        with _cache_lock:
            for position, key in self._keys.items():
                kept = _cache.get(key, _cache.get(self._key_in_group(position)))
                if kept is not None:
                    known[position] = kept
                    del self.tasks[position]
        return known

    def run(self) -> dict[int, list[str]]:
        """Run the tasks and return their outcomes; those that the budget does not suffice for are unknown."""
        over = list(self.tasks)
        for limit in LIMITS:
            over = self._run_within(limit, over)
        with _cache_lock:
            for position, task in self.tasks.items():
                spent = position not in self._found and self._left <= 0
                self._found.setdefault(position, [UNKNOWN] * len(task.arguments))
                _cache[self._key_in_group(position) if spent else self._keys[position]] = self._found[position]
            while len(_cache) > CACHED_OUTCOMES:
                _cache.popitem(last=False)
        return self._found

    def _run_within(self, limit: float, positions: list[int]) -> list[int]:
        """Run programs with a limit each, and return the positions of those that need more."""
        over = []
        while positions and self._left > 0:
            results, ended = self._request(limit, positions)
            self._found |= zip(positions, results, strict=False)
            done = len(results)
            if ended != "turn" and done < len(positions):
                if ended == "killed":
                    over.append(positions[done])
                else:
                    self._found[positions[done]] = [UNKNOWN] * len(self.tasks[positions[done]].arguments)
                done += 1
            positions = positions[done:]
        return over + positions

    @property
    def _left(self) -> float:
        """CPU seconds left of the budget; 0 if they are too few to run anything."""
        left = GROUP_SECONDS - self._account.seconds
        return left if left > MIN_SECONDS else 0.0

    def _request(self, limit: float, positions: list[int]) -> tuple[list[list[str]], str]:
        """Run programs for one turn.

        Returns:
            The outcomes of the first programs, and how the turn ended: "turn", or with the next program "killed" at its
            limit, "crashed" or "lost", twice, with its worker.
        """
        line = json.dumps([limit, self._left, [self.tasks[position] for position in positions]]).encode()
        for _ in range(ATTEMPTS):
            response = _pool().request(line, RESPONSE_SECONDS, self._account)
            if response is not None:
                results, ended, seconds = json.loads(response)
                self._account.charge(seconds)
                return results, ended
            self._account.charge(limit)
        return [], "lost"

    def _key_in_group(self, position: int) -> bytes:
        return _digest(self._keys[position].hex(), self._of_group)


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def _handle(request: str) -> str:
    """Run tasks in a forked child for a turn."""
    limit, left, tasks = json.loads(request)
    ran = run_forked(
        lambda fields: json.dumps(run_task(Task(*fields))), tasks, seconds=limit, total=left, turn=TURN_SECONDS
    )
    ended = "killed" if ran.killed else "crashed" if ran.crashed else "turn"
    return json.dumps([[json.loads(result) for result in ran.results], ended, ran.cpu_seconds])


def main() -> None:
    """Serve tasks until the input ends."""
    serve(_handle, memory_bytes=MEMORY_BYTES, open_files=OPEN_FILES)


if __name__ == "__main__":
    main()
