"""Measure the CPU time and memory of `memstore rollout`, and check that kills and server faults lose no rollout.

    python benchmarks/rollout.py [--rollouts 20000] [--concurrency 256]
    python benchmarks/rollout.py --kills 10 [--rollouts 20000] [--no-costs]

The server is `memstore_rl.testing.openai_stub` in a separate process, which responds after a random delay and injects
all its kinds of faults. Its text is a function of prompt and seed, so each rollout in the file is compared with the
requested one. The client is the command, `memstore rollout`; CPU time and peak memory are those of its process, with
start and imports.

Each kill is a SIGKILL when the file exceeds a random size. The file after a last, undisturbed run is compared with the
file of a run without kills.

The peers are simple scripts: sequential requests, and httpx with `asyncio.gather` over all requests. Neither survives a
failure, so they send a part of the requests to a server without faults; seconds are scaled to all rollouts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from memstore_rl.testing.addition_queries import rows_of, write_sums
from memstore_rl.testing.openai_stub import MODEL, Stub, process, text_of

MEMSTORE = str(Path(sys.executable).with_name("memstore"))
FAULTY = Stub(
    delay_s=0.1, busy=0.03, broken=0.03, drop=0.02, cut=0.02, malformed=0.02, empty_choices=0.02, too_few=0.1, seed=1
)
SEED = 7


class Cost(NamedTuple):
    """Resources used by a process."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    summary: dict[str, Any]


def command(url: str, queries: Path, output: Path, n: int, concurrency: int, *more: str) -> list[str]:
    """The command line of a run."""
    asked = ["--endpoint", url, "--model", MODEL, "-n", str(n), "--seed", str(SEED), "--concurrency", str(concurrency)]
    return [MEMSTORE, "rollout", str(queries), *asked, "--tries", "20", "--output", str(output), "--json", *more]


def measured(words: list[str]) -> Cost:
    """Run a command and measure it."""
    started = time.perf_counter()
    running = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert running.stdout is not None
    printed = running.stdout.read()
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        sys.exit(f"{' '.join(words)} ended with {running.returncode}")
    wall = time.perf_counter() - started
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, json.loads(printed))


def first_difference(path: Path, queries: int, n: int) -> str | None:
    """The first difference to the requested rollouts; None if each is there exactly once."""
    seen: set[tuple[str, int]] = set()
    for row in rows_of(path):
        place = (row["query_id"], row["sample_index"])
        if place in seen:
            return f"{place} is duplicated"
        seen.add(place)
        if row["response"] != text_of(row["query"], row["metadata"]["seed"]):
            return f"{place} is another rollout"
    return None if len(seen) == queries * n else f"{queries * n - len(seen)} rollouts are missing"


def costs(folder: Path, rollouts: int, concurrency: int) -> None:
    """Print a table of the client's CPU time and memory."""
    names = "rollouts", "n", "graded", "s", "CPU ms/rollout", "without start", "peak MB", "requests", "retries"
    print(f"| {' | '.join(names)} | concurrent | lost or duplicate |\n{'|---' * 11}|")
    for n, grading, share in ((1, False, 1), (1, False, 10), (8, False, 1), (8, True, 1)):
        count = rollouts // share // n
        queries = write_sums(folder / "queries.jsonl", count)
        output = folder / f"n{n}-{grading}-{share}.jsonl"
        with process(FAULTY) as url:
            words = command(url, queries, output, n, concurrency, "--grade" if grading else "--no-grade")
            cost = measured(words)
            served = stats_of(url)
            start = measured(words)
        assert start.summary["rollouts"]["new"] == 0
        each = 1000 * cost.cpu_s / (count * n)
        bare = 1000 * (cost.cpu_s - start.cpu_s) / (count * n)
        found = first_difference(output, count, n) or "none"
        summary, judged = cost.summary, "yes" if grading else "no"
        print(
            f"| {count * n:,} | {n} | {judged} | {cost.wall_s:.1f} | {each:.2f} | {bare:.2f} | {cost.peak_mb:.0f} "
            f"| {summary['requests']:,} | {summary['retries']:,} | {served['most_under_way']} | {found} |",
            flush=True,
        )


def stats_of(url: str) -> dict[str, int]:
    """The stub's counts."""
    import urllib.request

    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:
        return dict(json.load(answer))


def kills(folder: Path, rollouts: int, concurrency: int, count: int, seed: int) -> bool:
    """Kill a run `count` times; whether the final file equals that of a run without kills."""
    n = 8
    queries = write_sums(folder / "queries.jsonl", rollouts // n)
    undisturbed, killed = folder / "undisturbed.jsonl", folder / "killed.jsonl"
    with process(FAULTY) as url:
        measured(command(url, queries, undisturbed, n, concurrency))
        whole = undisturbed.stat().st_size
        chance = random.Random(seed)
        places = sorted(chance.randrange(int(0.95 * whole)) for _ in range(count))
        again = sum(kill_at(command(url, queries, killed, n, concurrency), killed, place) for place in places)
        last = measured(command(url, queries, killed, n, concurrency)).summary["rollouts"]
    wrong = first_difference(killed, rollouts // n, n)
    same = not wrong and canonical(rows_of(undisturbed)) == canonical(rows_of(killed))
    rows = sum(1 for _ in rows_of(killed))
    print(
        f"{count} kills ({again} more came too late), {rows} rollouts, {last['held']} of them from killed runs: "
        f"{'the same set' if same else wrong or 'another set'}",
        flush=True,
    )
    return same


def kill_at(words: list[str], file: Path, place: int) -> int:
    """Start a run and kill it when the file is longer than `place` bytes; return the number of failed attempts.

    If the run ends first, the file is cut at that size, usually in the middle of a line, and the run starts again.
    """
    for attempt in range(50):
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            while running.poll() is None:
                if file.exists() and file.stat().st_size > place:
                    running.kill()
                    break
                time.sleep(0.002)
        if running.returncode < 0:
            return attempt
        os.truncate(file, place)
    sys.exit("the runs end before they can be killed; pass more --rollouts")


def canonical(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Rows in sorted order, without the values that depend on how samples were grouped into requests."""
    kept = []
    for row in rows:
        metadata = {name: value for name, value in row["metadata"].items() if not name.endswith("_tokens")}
        kept.append(json.dumps({**row, "metadata": metadata}, sort_keys=True))
    return sorted(kept)


def peers(rollouts: int, concurrency: int) -> None:
    """Print the cost of the peers, measured on a part of the rollouts."""
    print("| peer | rollouts | CPU ms/rollout | s for all | peak MB more |\n|---|---|---|---|---|")
    shares = (("one", rollouts // 100), ("gather", rollouts // 20))
    with process(replace(Stub(), delay_s=FAULTY.delay_s)) as url:
        for name, count in shares:
            words = [sys.executable, __file__, "--peer", name, url, "--rollouts", str(count)]
            done = subprocess.run([*words, "--concurrency", str(concurrency)], capture_output=True, text=True)
            cpu, wall, peak = map(float, done.stdout.split())
            named = "one request after the other" if name == "one" else "httpx, gather over all"
            scaled = wall * rollouts / count
            print(f"| {named} | {count:,} | {1000 * cpu / count:.2f} | {scaled:,.0f} | {peak:.0f} |", flush=True)


def peer(kind: str, url: str, count: int, concurrency: int) -> None:
    """Run as a peer: one rollout per request."""
    import httpx

    bodies = [
        {"model": MODEL, "messages": [{"role": "user", "content": f"What is {i} plus {i} ?"}], "seed": i}
        for i in range(count)
    ]
    peak, cpu, wall = used(), time.process_time(), time.perf_counter()

    def text(answer: httpx.Response) -> str:
        return str(answer.json()["choices"][0]["message"]["content"])

    async def gathered() -> list[str]:
        limits = httpx.Limits(max_connections=concurrency)
        async with httpx.AsyncClient(limits=limits, timeout=None) as http:
            answers = await asyncio.gather(*(http.post(url + "/chat/completions", json=body) for body in bodies))
        return [text(answer) for answer in answers]

    if kind == "one":
        with httpx.Client(timeout=None) as http:
            texts = [text(http.post(url + "/chat/completions", json=body)) for body in bodies]
    else:
        texts = asyncio.run(gathered())
    assert len(texts) == count
    print(time.process_time() - cpu, time.perf_counter() - wall, used() - peak)


def used() -> float:
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--no-costs", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        peer(*given.peer, given.rollouts, given.concurrency)
        return
    with tempfile.TemporaryDirectory() as folder:
        if not given.no_costs:
            costs(Path(folder), given.rollouts, given.concurrency)
            peers(given.rollouts, given.concurrency)
        if given.kills and not kills(Path(folder), given.rollouts, given.concurrency, given.kills, given.seed):
            sys.exit(1)


if __name__ == "__main__":
    main()
