"""Kill verbs of the command (SIGKILL), run them again, and compare with a run that was left in peace.

    python benchmarks/kills.py [VERB ...] [--instants 25] [--full 8] [--queries 40] [--no-writes]

VERB is train, snapshot, reembed, restore, label or repair (`verify --repair` of a memory with a damaged log and every
kind of problem); all of them by default. A verb is killed at instants that are spread evenly over its run, and before
each of its writes (`memstore.testing.killed`), and runs under limits on the size of files, which must end it with one
sentence about space, as on a full disk. After that, the memory must open, and `train`, `snapshot` and `label` must have
changed nothing or everything. Then the same command is run again. Node tables, edges, vectors, files of models and
snapshots must equal those of the undisturbed run by digest, `verify` must find nothing, and no other file may be left.

Prints a line for each kill and for each fault that it finds, and a table, and exits with 1 if there is any. Vectors are
hashed, not embedded. `killed_ingest.py` does the same for ingests.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import numpy as np
from synthetic import make

from memstore.errors import CorruptStoreError, MemstoreError
from memstore.memory import Memory
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.killed import Ended, KillServer

State = dict[str, str]
ATTEMPTS = 3
"""Runs at one instant, if the verb ends before it."""


class Command:
    """The command `memstore`, in processes that can be killed."""

    def __init__(self, server: KillServer) -> None:
        self._server = server

    def __call__(self, *words: str | Path, **options: Any) -> Ended:
        """Run the command; `options` are those of `KillServer.run`."""
        return self._server.run("memstore_cli.main:run", [str(word) for word in words], **options)

    def succeed(self, *words: str | Path) -> Ended:
        """Run the command, which must succeed."""
        ended = self(*words)
        if ended.code:
            raise SystemExit(f"{words} ended with {ended.code}:\n{ended.output}")
        return ended


# -- what a verb works on -------------------------------------------------------------------------------------------


class Base:
    """Memories, a snapshot and a file of labels; each kill works on copies."""

    def __init__(self, command: Command, folder: Path, queries: int) -> None:
        """Make them."""
        self.command, self.folder = command, folder
        first, more = folder / "first", folder / "more"
        first.mkdir()
        more.mkdir()
        rows = make(first, queries).path
        command.succeed("ingest", rows, "--memory", folder / "untrained")
        shutil.copytree(folder / "untrained", folder / "trained")
        command.succeed("train", "--epochs", "2", "--memory", folder / "trained")
        command.succeed("score", "--memory", folder / "trained")
        command.succeed("snapshot", folder / "snapshot", "--memory", folder / "trained")
        self._write_labels(folder / "labels.csv")
        shutil.copytree(folder / "trained", folder / "broken")
        self._break(folder / "broken", make(more, queries, seed=1).path)

    def _write_labels(self, path: Path) -> None:
        """Labels for half of the rollouts, changed ones among them; every seventh is removed."""
        with Memory.open(self.folder / "untrained") as memory:
            ids = memory.snapshot().thinkings["id"].to_pylist()
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("id", "reward"))
            rows.writerows((name, "null" if place % 7 == 0 else place % 2) for place, name in enumerate(ids[::2]))

    def _break(self, memory: Path, rows: Path) -> None:
        """Kill an ingest before its vectors, damage vectors, and write noise at the end of the graph's log."""
        shutil.copytree(memory, memory.with_name("probe"))
        writes = self.command.succeed("ingest", rows, "--memory", memory.with_name("probe")).writes
        self.command("ingest", rows, "--memory", memory, before=1 + writes.index("EmbeddedVectors.upsert"))
        with sqlite3.connect(memory / "vectors" / "vectors.sqlite3") as vectors:
            vectors.execute("UPDATE vectors SET id = 't-orphan' WHERE id = (SELECT max(id) FROM vectors)")
            vectors.execute("UPDATE vectors SET vector = zeroblob(128) WHERE id = (SELECT min(id) FROM vectors)")
        vectors.close()
        log = memory / "graph" / "graph.lbdb.wal"
        log.write_bytes(log.read_bytes() + random.Random(0).randbytes(500))
        log.with_name(f"{log.name}.whole").write_text(f"{log.stat().st_size:020}")


@dataclass(frozen=True)
class Verb:
    """A verb and what it works on."""

    start: str
    """The memory in `Base` that it changes; empty: none."""
    words: Callable[[Path, Path], Sequence[str | Path]]
    """The command, given the folder of the copies and that of the base."""
    at_once: bool = False
    """It changes nothing or everything."""


VERBS = {
    "train": Verb("untrained", lambda at, base: ("train", "--epochs", "2", "--memory", at / "memory"), at_once=True),
    "snapshot": Verb("trained", lambda at, base: ("snapshot", at / "new", "--memory", at / "memory"), at_once=True),
    "reembed": Verb("trained", lambda at, base: ("reembed", "--embedder", "hash-16", "--memory", at / "memory")),
    "restore": Verb("", lambda at, base: ("restore", base / "snapshot", "--memory", at / "memory")),
    "label": Verb(
        "trained",
        lambda at, base: ("label", "--file", base / "labels.csv", "--replace", "--memory", at / "memory"),
    ),
    "repair": Verb("broken", lambda at, base: ("verify", "--repair", "--memory", at / "memory")),
}

# -- what a verb leaves ---------------------------------------------------------------------------------------------


def state_of(at: Path) -> State:
    """Digests of the memory, its models and a new snapshot, and the problems of the memory."""
    state: State = {}
    if (at / "memory" / "memstore.json").exists():
        with Memory.open(at / "memory") as memory:
            state = memory_digest(memory) if memory.fingerprint else {}
            state["problems"] = str(sorted(problem.kind for problem in memory.verify().problems))
            state["embedder"] = str(memory.fingerprint)
        state["models"] = _files(at / "memory" / "models")
    if (at / "new").exists():
        state["snapshot"] = _files(at / "new")
    return state


def names_in(at: Path) -> list[str]:
    """Names of all files; those that depend on how often a memory was opened, and locks of LadybugDB, are left out."""
    skipped = ("/embeddings/", "/quarantine/", ".sqlite3-", ".wal", ".checkpoint.")
    names = [str(path.relative_to(at)) for path in at.rglob("*") if path.is_file()]
    unfinished = [name for name in names if "/embeddings/" in name and not name.endswith(".safetensors")]
    return sorted([name for name in names if not any(part in name for part in skipped)] + unfinished)


def _files(folder: Path) -> str:
    """Digest of the files in a folder; times in JSON are left out."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # a folder that is being built; the next run must delete it
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".json":
            document = json.loads(content)
            for part in (document, document.get("card", {})):
                part.pop("created_at", None)
            for name in list(document.get("digests", {})):
                document["digests"].pop(name)
            content = json.dumps(document).encode()
        elif path.suffix == ".arrow":
            continue  # it has times; the memory's tables are compared instead
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + content)
    return digest.hexdigest()


# -- kills ----------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Results of the kills of one verb."""

    seconds: float
    instants: int = 0
    writes: int = 0
    full: int = 0
    """Runs that ended for lack of space."""
    ended: int = 0
    """Runs that ended before the kill, or had enough space."""
    faults: list[str] = field(default_factory=list)

    def row(self, verb: str) -> str:
        """A line of the table."""
        counts = (self.instants, self.writes, self.full, self.ended, len(self.faults))
        return f"| {verb} | {self.seconds:.1f} | {' | '.join(map(str, counts))} |"


class Trial:
    """Kills of one verb."""

    def __init__(self, name: str, base: Base, folder: Path) -> None:
        """Run the verb once without a kill."""
        self.name, self.verb, self._base, self._folder = name, VERBS[name], base, folder
        at = self._copy()
        self.before = state_of(at) if name != "repair" else {}
        self.peaceful = base.command.succeed(*self._words(at))
        self.expected, self.names = state_of(at), names_in(at)
        self.tally = Tally(self.peaceful.seconds)
        if self.expected["problems"] != "[]":
            self.tally.faults.append(f"undisturbed: {self.expected['problems']}")

    def _words(self, at: Path) -> Sequence[str | Path]:
        return self.verb.words(at, self._base.folder)

    def _copy(self) -> Path:
        at = self._folder / "trial"
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        if self.verb.start:
            shutil.copytree(self._base.folder / self.verb.start, at / "memory")
        return at

    def at_instants(self, count: int, rng: random.Random) -> None:
        """Kill it at `count` instants."""
        whole = self.peaceful.seconds
        for number in range(count):
            for _ in range(ATTEMPTS):
                at = self._copy()
                instant = whole * (number + rng.random()) / count
                ended = self._base.command(*self._words(at), after_s=instant)
                if ended.killed:
                    self.tally.instants += 1
                    self._check(at, f"killed at {instant:.2f} s")
                    break
                self.tally.ended += 1
                whole = min(whole, ended.seconds)

    def at_writes(self, names: Container[str] | None = None) -> None:
        """Kill it before each of its writes, or only before the first and the last of these names."""
        writes = self.peaceful.writes
        for number, write in enumerate(writes, start=1):
            between = write in writes[: number - 1] and write in writes[number:]
            if names is not None and (write not in names or between):
                continue
            at = self._copy()
            if self._base.command(*self._words(at), before=number).killed:
                self.tally.writes += 1
                self._check(at, f"killed before write {number} ({write})")
            else:
                self.tally.ended += 1

    def at_full_disks(self, count: int) -> None:
        """Let it run with `count` limits on the size of files."""
        at = self._copy()
        self._base.command(*self._words(at))
        largest = max(path.stat().st_size for path in at.rglob("*") if path.is_file())
        for limit in np.geomspace(4096, largest, count, endpoint=False).astype(int).tolist():
            at = self._copy()
            ended = self._base.command(*self._words(at), file_bytes=limit)
            if ended.code == 0:
                self.tally.ended += 1
                continue
            self.tally.full += 1
            sentence = ended.output.strip().splitlines()[-1:] or [""]
            if ended.code != 1 or not sentence[0].startswith("error: ") or "Traceback" in ended.output:
                self._report(f"no file over {limit} bytes", [f"ended with {ended.code}: {ended.output.strip()}"])
            elif "space" not in sentence[0]:
                self._report(f"no file over {limit} bytes", [f"does not say that there is no space: {sentence[0]}"])
            self._check(at, f"no file over {limit} bytes")

    def _check(self, at: Path, instant: str) -> None:
        """Compare what a kill has left, and what the next run makes of it."""
        faults = self._faults(at)
        print(f"{self.name}, {instant}: {'differs' if faults else 'equal'}", flush=True)
        self._report(instant, faults)

    def _report(self, instant: str, faults: Sequence[str]) -> None:
        for fault in faults:
            print(f"{self.name}, {instant}: {fault}", flush=True)
        self.tally.faults += faults

    def _faults(self, at: Path) -> list[str]:
        try:
            left = state_of(at)
        except CorruptStoreError as error:
            if self.name != "repair":
                return [f"does not open: {error}"]
            left = {}
        except MemstoreError as error:
            return [f"does not open: {error}"]
        changed = [part for part in left if left[part] not in (self.before.get(part), self.expected[part])]
        faults = [f"half made: {', '.join(changed)}"] if self.verb.at_once and changed else []
        again = self._base.command(*self._words(at))
        if again.code and not (self.name == "snapshot" and "not empty" in again.output and "snapshot" in left):
            faults.append(f"the next run ended with {again.code}: {again.output.strip()}")
        found = state_of(at)
        if differs := [part for part in self.expected if found.get(part) != self.expected[part]]:
            faults.append(f"differs in {', '.join(differs)} ({found.get('problems')})")
        if others := set(names_in(at)) ^ set(self.names):
            faults.append(f"other files: {', '.join(sorted(others))}")
        return faults


def main() -> None:
    """Run the kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verbs", nargs="*", choices=[*VERBS, []], metavar="VERB")
    parser.add_argument("--instants", type=int, default=25)
    parser.add_argument("--queries", type=int, default=40, help="8 rollouts each")
    parser.add_argument("--full", type=int, default=8, help="limits on the size of files, as on a full disk")
    parser.add_argument("--no-writes", action="store_true", help="do not kill before each write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, faults, table = random.Random(arguments.seed), 0, []
    with tempfile.TemporaryDirectory() as folder, KillServer() as server:
        base = Base(Command(server), Path(folder), arguments.queries)
        for name in arguments.verbs or VERBS:
            trial = Trial(name, base, Path(folder))
            trial.at_instants(arguments.instants, rng)
            if not arguments.no_writes:
                trial.at_writes()
            trial.at_full_disks(arguments.full)
            table.append(trial.tally.row(name))
            print(table[-1], flush=True)
            faults += len(trial.tally.faults)
    print("\n| verb | seconds | killed at instants | killed before writes | no space | ended before | faults |")
    print("|---|---|---|---|---|---|---|", *table, sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
