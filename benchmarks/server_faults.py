"""Faults at random instants during an ingest; each memory is compared with that of an undisturbed ingest.

    NEO4J_HOME=DIR python benchmarks/server_faults.py [--times 25] [--queries 60] [--faults NAME ...]

Needs the package `milvus` (see `memstore.testing.servers.milvus`). Faults of the pair of servers are those of FAULTS
below; `embedded` is kill -9 of an ingest into a folder, as in `killed_ingest.py`. An ingest under a fault either goes
on by itself, or ends with one sentence of ours; then the same command is run again, as a person would. The memory must
equal, by digest, one that was left in peace, and `verify` must find nothing. Vectors are hashed, not embedded.

Prints a line a fault and one table; ends with 1 if a memory differed or an ingest ended in any other way.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from killed_ingest import BEGUN, REFUSED, command, digest, kill_and_compare
from server_pair import LOCATION, Pair, named, running
from synthetic import make

from memstore.testing.servers.tcp_proxy import TcpProxy

BLOCK_ROWS = 64
EMBEDDED = "embedded"
LONGEST_S = 600.0
PAUSE_S = (0.0, 5.0)
"""Downtime of a server or connection in seconds, without the server's start."""
WORDS = 1_000
"""Maximum length of unexpected output that is printed, in characters."""
Process = subprocess.Popen[str]
Strike = Callable[[Pair, Process, float], None]


def kill_ingest(pair: Pair, process: Process, pause: float) -> None:
    """Kill the ingesting process."""
    process.kill()


def kill_neo4j(pair: Pair, process: Process, pause: float) -> None:
    """Kill and restart the graph's server."""
    pair.neo4j.kill()
    time.sleep(pause)
    pair.neo4j.start()


def kill_milvus(pair: Pair, process: Process, pause: float) -> None:
    """Kill and restart the vectors' server."""
    pair.milvus.kill()
    time.sleep(pause)
    pair.milvus.start()


def cut_neo4j(pair: Pair, process: Process, pause: float) -> None:
    """Cut the connection to the graph for a while."""
    _cut(pair.to_neo4j, pause)


def cut_milvus(pair: Pair, process: Process, pause: float) -> None:
    """Cut the connection to the vectors for a while."""
    _cut(pair.to_milvus, pause)


def _cut(proxy: TcpProxy, pause: float) -> None:
    proxy.cut()
    time.sleep(pause)
    proxy.restore()


FAULTS: dict[str, Strike] = {
    "kill -9 of the ingest": kill_ingest,
    "kill -9 of Neo4j": kill_neo4j,
    "kill -9 of Milvus": kill_milvus,
    "connection to Neo4j cut": cut_neo4j,
    "connection to Milvus cut": cut_milvus,
}


class Outcome(NamedTuple):
    """Outcome of one ingest under a fault."""

    seconds: float
    status: int
    said: str
    """Its last output line."""
    differs: list[str]
    again: str = ""
    """Output of the next ingest if that failed too."""

    @property
    def ended(self) -> str:
        """The kind of outcome."""
        if self.again:
            return "otherwise"
        if self.status == 0:
            return "went on"
        if self.status == -9:
            return "killed"
        return "one sentence" if self.status == REFUSED and self.said.count("\n") == 0 else "otherwise"


class Trial:
    """Ingests of one file into a pair of servers, and the digest of an undisturbed one."""

    def __init__(self, pair: Pair, file: Path) -> None:
        """Ingest twice without faults, because the first ingest of a server is slower than the others."""
        self._pair = pair
        self._command = command([file], LOCATION, "hash", BLOCK_ROWS)
        first, again = self._undisturbed(), self._undisturbed()
        assert first.status == again.status == 0, (first, again)
        self.seconds = again.seconds

    def _undisturbed(self) -> Outcome:
        environment = self._pair.environment()
        started = self._start(environment)
        begin = time.monotonic()
        status, said = _end(started)
        seconds = time.monotonic() - begin
        with named(environment):
            self.expected = digest(LOCATION, "hash")
        return Outcome(seconds, status, said, [])

    def under(self, strike: Strike, rng: random.Random) -> Outcome:
        """Run an ingest with a fault at a random instant, then finish it and compare the memory."""
        while True:
            environment = self._pair.environment()
            instant, pause = rng.random() * self.seconds, rng.uniform(*PAUSE_S)
            process = self._start(environment)
            begin = time.monotonic()
            try:
                process.wait(instant)
            except subprocess.TimeoutExpired:
                break
            _end(process)
            self.seconds = min(self.seconds, time.monotonic() - begin)
        strike(self._pair, process, pause)
        status, said = _end(process)
        seconds = time.monotonic() - begin
        again = ""
        if status:
            failed, words = _end(self._start(environment))
            again = words if failed else ""
        with named(environment):
            found = digest(LOCATION, "hash")
        differs = [part for part in self.expected if found[part] != self.expected[part]]
        return Outcome(seconds, status, said, differs, again)

    def _start(self, environment: dict[str, str]) -> Process:
        process = subprocess.Popen(
            self._command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip() == BEGUN
        return process


def _end(process: Process) -> tuple[int, str]:
    """Wait for the process; return its exit status and last output line."""
    _, said = process.communicate(timeout=LONGEST_S)
    return process.returncode, said.strip()


class Row(NamedTuple):
    """Outcomes of all ingests under one fault."""

    fault: str
    times: int
    went_on: int
    finished_by_the_next: int
    differ: int
    longest: float | None
    otherwise: int = 0
    """Ingests with a forbidden outcome."""

    def __str__(self) -> str:
        longest = "" if self.longest is None else f"{self.longest:.0f}"
        counts = (self.times, self.went_on, self.finished_by_the_next, self.differ, self.otherwise, longest)
        return f"| {self.fault} | {' | '.join(map(str, counts))} |"


def strike_pair(folder: Path, faults: list[str], times: int, queries: int, rng: random.Random) -> list[Row]:
    """Run the faults of the pair of servers, then print the error sentences of the ingests."""
    rows, sentences = [], Counter[str]()
    with running(folder) as pair:
        trial = Trial(pair, make(folder, queries).path)
        print(f"undisturbed: {trial.seconds:.1f} s, {trial.expected}", flush=True)
        for name in faults:
            outcomes = []
            for number in range(1, times + 1):
                outcomes.append(trial.under(FAULTS[name], rng))
                _tell(f"{name} {number}", outcomes[-1])
            ended = Counter(outcome.ended for outcome in outcomes)
            sentences += Counter(outcome.said for outcome in outcomes if outcome.ended == "one sentence")
            again = ended["killed"] + ended["one sentence"]
            differ = sum(bool(outcome.differs) for outcome in outcomes)
            longest = max(outcome.seconds for outcome in outcomes)
            rows.append(Row(name, times, ended["went on"], again, differ, longest, ended["otherwise"]))
    for sentence, count in sentences.most_common():
        print(f"{count} x {sentence}")
    return rows


def _tell(what: str, outcome: Outcome) -> None:
    verdict = f"differs in {', '.join(outcome.differs)}" if outcome.differs else "equal"
    print(f"{what}: {outcome.seconds:.1f} s, {outcome.ended}, {verdict}", flush=True)
    if outcome.ended == "otherwise":
        print(*(said[:WORDS] for said in (outcome.said, outcome.again) if said), sep="\n", flush=True)


def main() -> None:
    """Run the selected faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=25)
    parser.add_argument("--queries", type=int, default=60, help="8 rollouts each")
    parser.add_argument("--faults", nargs="+", choices=(EMBEDDED, *FAULTS), default=[EMBEDDED, *FAULTS])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, times, queries = random.Random(arguments.seed), arguments.times, arguments.queries
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        if EMBEDDED in arguments.faults:
            folder = Path(name) / "embedded"
            folder.mkdir()
            differ = kill_and_compare(folder, queries, times, "hash", rng)
            rows.append(Row("kill -9 of the ingest, embedded", times, 0, times, differ, None))
        if asked := [fault for fault in arguments.faults if fault != EMBEDDED]:
            rows += strike_pair(Path(name), asked, times, queries, rng)
    print("| fault | times | went on by itself | finished by the next ingest | differ | ended otherwise | longest, s |")
    print("|---|---|---|---|---|---|---|", *rows, sep="\n")
    sys.exit(any(row.differ or row.otherwise for row in rows))


if __name__ == "__main__":
    main()
