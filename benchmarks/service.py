"""Measures the reward service: throughput and latency, or durability under kills.

    python benchmarks/service.py [--groups 200] [--clients 1 8 64]
    python benchmarks/service.py --kill 3 --minutes 10
    python benchmarks/service.py --retrain 3 [--clients 8]

The first command prints a table for groups of 8 rollouts with 200 words of thinking, MiniLM, on the demo's memory.
`embedding alone` is the upper limit: the embedder on the same texts, in batches of as many groups as there are clients,
in a process of its own. `known texts` are groups whose vectors the service already has: sent back to back, and paced at
about one group per second and client.

The second command keeps the service under load, kills it with -9 at random times, restarts it, and compares the
acknowledged rollouts with the memory once the journal is empty. Its texts are known after the first round, so minutes
of load are thousands of groups.

The third command compares the latency of known texts, paced, while the reward model is trained in place with that
before and after, so many times in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

ROLLOUTS, WORDS = 8, 200
SENTENCES = """the so then we have each total of apples number first next remaining cost price hours days divide
multiply add subtract equals gives which means half twice more less than per week left over sum difference"""
VOCABULARY = SENTENCES.split()
MEMSTORE = str(Path(sys.executable).with_name("memstore"))


def group(seed: int, run: str) -> Any:
    """Create a group with random texts, which are new unless the seed was used before."""
    from memstore_rl.rewards.reward import Group, RewardQuery, Rollout

    chance = random.Random(seed)

    def words(count: int) -> str:
        return " ".join(
            chance.choice(VOCABULARY) if chance.random() < 0.85 else str(chance.randrange(1000)) for _ in range(count)
        )

    query = RewardQuery(f"Problem {seed}: {words(40)}?", dataset="arithmetic", domain="math")
    rollouts = [
        Rollout(thinking=words(WORDS), answer=str(chance.randrange(5)), run=run, step=seed, policy="bench")
        for _ in range(ROLLOUTS)
    ]
    return Group(query, rollouts)


class Service:
    """`memstore serve` as a process that can be killed and restarted."""

    def __init__(self, memory: Path) -> None:
        self.memory, self.port = memory, 0
        self.start()

    def start(self) -> None:
        """Start the service, at its previous address if it had one."""
        command = [
            MEMSTORE,
            "serve",
            "--memory",
            str(self.memory),
            "--port",
            str(self.port),
            "--json",
        ]
        log = (self.memory.parent / "service.log").open("ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        lines = list(itertools.takewhile(lambda line: line != "}\n", self.process.stdout))
        self.endpoint = json.loads("".join(lines) + "}")["endpoint"]
        self.port = int(self.endpoint.rsplit(":", 1)[1])

    def journal(self) -> int:
        """Return the number of rollouts not yet written to the memory."""
        text = urllib.request.urlopen(f"{self.endpoint}/metrics", timeout=60).read().decode()
        found = re.search(r"^memstore_journal_entries (\S+)$", text, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))

    def stop(self) -> None:
        """Stop the service gracefully."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


async def load(endpoint: str, groups: list[Any], clients: int, pace_s: float | None) -> tuple[float, list[float]]:
    """Send the groups from several clients; return the total seconds, and the seconds of each group."""
    from memstore_rl.service.client import AsyncRewardClient

    waiting, seconds = iter(groups), []

    async def one(client: Any) -> None:
        for item in waiting:
            if pace_s is not None:
                await asyncio.sleep(pace_s * 2 * random.random())
            started = time.perf_counter()
            await client.score_group(item)
            seconds.append(time.perf_counter() - started)

    async with AsyncRewardClient(endpoint, connections=clients) as client:
        started = time.perf_counter()
        await asyncio.gather(*(one(client) for _ in range(clients)))
        return time.perf_counter() - started, seconds


def embedding_rate(groups: list[Any], clients: int) -> float:
    """Return groups per second of the embedder alone, in batches of `clients` groups."""
    from memstore.embedding.minilm import load_embedder

    embedder = load_embedder("all-MiniLM-L6-v2", device="cpu", long_text="mean")
    texts = [[item.query.text, *(rollout.thinking for rollout in item.rollouts)] for item in groups]
    embedder.embed(texts[0])
    started = time.perf_counter()
    for start in range(0, len(texts), clients):
        embedder.embed([text for part in texts[start : start + clients] for text in part])
    return len(texts) / (time.perf_counter() - started)


def measure(memory: Path, count: int, clients: list[int]) -> None:
    """Print the table."""
    service = Service(memory)
    print("| texts | clients | groups/s | share of embedding alone | p50 ms | p99 ms |\n|---|---|---|---|---|---|")

    def row(name: str, number: int, timing: tuple[float, list[float]], embedding_only: float | None = None) -> None:
        seconds, each = timing
        rate = len(each) / seconds
        share = f"{rate / embedding_only:.2f}" if embedding_only else ""
        p50, p99 = (1000 * float(np.quantile(each, q)) for q in (0.5, 0.99))
        print(f"| {name} | {number} | {rate:.1f} | {share} | {p50:.0f} | {p99:.0f} |", flush=True)

    asyncio.run(load(service.endpoint, [group(-1, "warm")], 1, None))
    for number in clients:
        groups = [group(1_000_000 * number + i, f"new-{number}") for i in range(count)]
        timing = asyncio.run(load(service.endpoint, groups, number, None))
        arguments = [sys.executable, __file__, "--embedding-rate", str(number), "--groups", str(count)]
        embedding_only = float(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
        print(f"| embedding alone | {number} | {embedding_only:.1f} | 1.00 | | |")
        row("new", number, timing, embedding_only)
        row("known", number, asyncio.run(load(service.endpoint, groups * 3, number, None)))
        row("known, paced", number, asyncio.run(load(service.endpoint, groups[: 10 * number], number, 1.0)))
    service.stop()


def measure_retraining(memory: Path, clients: int, times: int) -> None:
    """Print the latency with and without a training in place."""
    from memstore_rl.service.client import RewardClient

    service = Service(memory)
    groups = [group(number, "retrain") for number in range(10 * clients)]
    asyncio.run(load(service.endpoint, groups, clients, None))
    found: dict[str, list[float]] = {"idle": [], "training": []}
    lasted = []

    def train() -> None:
        started = time.monotonic()
        with RewardClient(service.endpoint, deadline_s=3600) as client:
            client.retrain()
        lasted.append(time.monotonic() - started)

    for number in range(times):
        found["idle"] += asyncio.run(load(service.endpoint, groups, clients, 1.0))[1]
        asyncio.run(load(service.endpoint, [group(-2 - number, "new")], 1, None))
        training = threading.Thread(target=train)
        training.start()
        while training.is_alive():
            found["training"] += asyncio.run(load(service.endpoint, groups[: 2 * clients], clients, 1.0))[1]
    service.stop()
    print(f"{times} trainings of {', '.join(f'{seconds:.0f}' for seconds in lasted)} s; {clients} clients, paced")
    print("| | groups | p50 ms | p99 ms | longest ms |\n|---|--:|--:|--:|--:|")
    for name, seconds in found.items():
        p50, p99, longest = (1000 * float(np.quantile(seconds, q)) for q in (0.5, 0.99, 1.0))
        print(f"| {name} | {len(seconds)} | {p50:.0f} | {p99:.0f} | {longest:.0f} |")


def kill(memory: Path, minutes: float, kills: int) -> None:
    """Print the acknowledged, lost and duplicated rollouts."""
    from memstore.memory import Memory
    from memstore_rl.service.client import RewardClient

    service, stop = Service(memory), threading.Event()
    numbers, acknowledged, errors = itertools.count(), [], []

    def send() -> None:
        with RewardClient(service.endpoint, deadline_s=300) as client:
            while not stop.is_set():
                number = next(numbers)
                try:
                    client.score_group(group(number % 200, f"round-{number // 200}"))
                except Exception as error:
                    errors.append(str(error))
                    return
                acknowledged.append(number)

    clients = [threading.Thread(target=send) for _ in range(8)]
    for client in clients:
        client.start()
    started, moments = (
        time.monotonic(),
        sorted(random.Random(1).uniform(0.05, 0.9) * minutes * 60 for _ in range(kills)),
    )
    for moment in moments:
        time.sleep(max(0.0, started + moment - time.monotonic()))
        service.process.kill()
        service.process.wait()
        service.start()
    time.sleep(max(0.0, started + minutes * 60 - time.monotonic()))
    stop.set()
    for client in clients:
        client.join()
    started = time.monotonic()
    while service.journal():
        assert service.process.poll() is None, "the service has ended"
        time.sleep(1.0)
    print(f"the journal was empty {time.monotonic() - started:.0f} s after the load ended")
    service.stop()
    with Memory.open(memory) as opened:
        found = list(
            opened.cypher(
                "MATCH (r:Run)-[:PRODUCED]->(t:Thinking) WHERE r.name STARTS WITH 'round-' "
                "RETURN r.name, t.step, t.sample_index"
            ).rows
        )
    expected = {(f"round-{n // 200}", n % 200, index) for n in acknowledged for index in range(ROLLOUTS)}
    print(
        f"{minutes:g} minutes, {kills} kills, {len(acknowledged):,} groups acknowledged, {len(errors)} clients gave up"
    )
    lost, duplicated = len(expected - set(found)), len(found) - len(set(found))
    print(f"acknowledged rollouts {len(expected):,}, lost {lost}, duplicated {duplicated}")


def main() -> None:
    """Create a memory and run a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--retrain", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--memory", type=Path, help="memory with a reward model; default: a new `memstore demo`")
    parser.add_argument("--embedding-rate", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.embedding_rate:
        groups = [group(1_000_000 * arguments.embedding_rate + i, "") for i in range(arguments.groups)]
        print(embedding_rate(groups, arguments.embedding_rate))
        return
    with tempfile.TemporaryDirectory() as folder:
        memory = arguments.memory
        if memory is None:
            memory = Path(folder) / "memory"
            command = [MEMSTORE, "demo", "--folder", str(memory)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if arguments.retrain:
            measure_retraining(memory, arguments.clients[0], arguments.retrain)
        elif arguments.kill:
            kill(memory, arguments.minutes, arguments.kill)
        else:
            measure(memory, arguments.groups, arguments.clients)


if __name__ == "__main__":
    main()
