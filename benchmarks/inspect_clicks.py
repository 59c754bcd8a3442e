"""Measures scoring while people look at the pages of the service, and the pages themselves.

    python benchmarks/inspect_clicks.py [--people 10] [--clients 8] [--rounds 3] [--memory FOLDER]

The service has the demo's memory, or the given one with a reward model. Groups of 8 rollouts with known texts are sent
by several clients, each about one a second; in turn with and without people who open a page about every two seconds:
the memory, lists, a query, its timeline, a rollout, its neighbourhood, a search, disagreements, and a query in Cypher.
The first table has the latency of a group, the second the time of each page on the server under that load.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
from service import MEMSTORE, Service, group, load

PAUSE_S = 2.0
"""Mean pause of a person between two pages."""
IDS = "MATCH (q:Query)-[:GENERATES]->(t:Thinking) RETURN q.id, t.id LIMIT 400"


def addresses(query: str, rollout: str) -> dict[str, str]:
    """Pages about one query and one rollout, by name."""
    return {
        "Memory": "/inspect/",
        "Queries": "/inspect/queries",
        "search": "/inspect/queries?search=adopts",
        "a query": f"/inspect/query/{query}",
        "Timeline": f"/inspect/query/{query}/timeline",
        "a rollout": f"/inspect/rollout/{rollout}",
        "Propagation": f"/inspect/propagation?node={rollout}",
        "Disagreements": "/inspect/disagreements",
        "Cypher": "/inspect/cypher?" + f"query={quote('MATCH (t:Thinking) RETURN t.policy, count(*)')}",
    }


class People:
    """Threads that open pages; use it as a context manager."""

    def __init__(self, endpoint: str, number: int, ids: list[tuple[str, str]]) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=(endpoint, ids, seed)) for seed in range(number)]

    def __enter__(self) -> People:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _look(self, endpoint: str, ids: list[tuple[str, str]], seed: int) -> None:
        chance = random.Random(seed)
        with httpx.Client(base_url=endpoint, follow_redirects=True, timeout=60) as web:
            while not self._stop.wait(2 * PAUSE_S * chance.random()):
                name, address = chance.choice(list(addresses(*chance.choice(ids)).items()))
                started = time.perf_counter()
                web.get(address).raise_for_status()
                self.seconds[name].append(time.perf_counter() - started)


def row(name: str, seconds: list[float]) -> str:
    p50, p99, longest = (1000 * float(np.quantile(seconds, q)) for q in (0.5, 0.99, 1.0))
    return f"| {name} | {len(seconds)} | {p50:.0f} | {p99:.0f} | {longest:.0f} |"


def ids_of(memory: Path) -> list[tuple[str, str]]:
    """Some queries with one of their rollouts."""
    from memstore.memory import Memory

    with Memory.open(memory) as opened:
        return [(str(query), str(rollout)) for query, rollout in opened.cypher(IDS).rows]


def measure(memory: Path, people: int, clients: int, rounds: int) -> None:
    """Print both tables."""
    ids = ids_of(memory)
    service = Service(memory)
    groups = [group(number, "looked-at") for number in range(20 * clients)]
    asyncio.run(load(service.endpoint, groups, clients, None))
    found: dict[str, list[float]] = {"nobody": [], f"{people} people": []}
    pages: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        found["nobody"] += asyncio.run(load(service.endpoint, groups, clients, 1.0))[1]
        with People(service.endpoint, people, ids) as crowd:
            found[f"{people} people"] += asyncio.run(load(service.endpoint, groups, clients, 1.0))[1]
        for name, seconds in crowd.seconds.items():
            pages[name] += seconds
    service.stop()
    head = "| groups | p50 ms | p99 ms | longest ms |\n|---|--:|--:|--:|--:|"
    print("\n".join([f"| looking {head}", *(row(name, seconds) for name, seconds in found.items())]))
    print("\n".join([f"\n| page {head}", *(row(name, pages[name]) for name in addresses("", "") if pages[name])]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        memory = options.memory
        if memory is None:
            memory = Path(folder) / "memory"
            subprocess.run([MEMSTORE, "demo", "--folder", str(memory)], check=True, stdout=subprocess.DEVNULL)
        measure(memory, options.people, options.clients, options.rounds)


if __name__ == "__main__":
    main()
