"""Times every page over a large embedded memory, against a bar of 300 ms on the server.

    python benchmarks/inspect_large.py --folder FOLDER [--queries 100000] [--hits 40] [--most 10]

The memory (`large_memory.py`: 10 rollouts a query, and one query with 5,010) stays in the folder; a build that was
ended goes on when the command is repeated. A server of the pages is started on it, and pages are opened one at a time.
`cold` is the first hit after the start; `counting` are hits while what covers the whole memory is computed in the
background; p50 and p99 are of hits over several addresses, in turn, after that. `CPU` is the processor time of the
server for these, on average, which depends less than the others on what else the machine does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from large_memory import build, sizes
from service import MEMSTORE

from memstore.memory import Memory

BAR_S = 0.3
COMPUTED = {"Memory": "", "Disagreements": "disagreements", "Training": "training"}
"""Pages of what covers the whole memory."""
SOME = 12
"""Addresses of a page."""
NAMED = "MATCH (t:Thinking) WHERE t.policy = 'policy-1' RETURN t.id, t.step LIMIT 20"


def addresses(memory: Memory, queries: int) -> dict[str, list[str]]:
    """Addresses below the root of the pages, by name of the page."""
    chance = random.Random(0)
    rows = list(memory.cypher(f"MATCH (q:Query) RETURN q.id SKIP {queries // 2} LIMIT {SOME}").rows)
    ids = [str(row[0]) for row in rows]
    found = list(memory.cypher("MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer) WHERE q.id IN $ids "
                               "RETURN q.id, min(t.id), min(a.id)", {"ids": ids}).rows)  # fmt: skip
    big = str(next(memory.cypher("MATCH (q:Query)-[k:IN]->(:Dataset) WHERE k.key = 'large/0' RETURN q.id").rows)[0])
    explained = memory.cypher(f"MATCH (t:Thinking)-[:INFLUENCED_BY]->() RETURN DISTINCT t.id LIMIT {SOME}").rows
    policies = [str(row[0]) for row in memory.cypher(f"MATCH (p:Policy) RETURN p.id LIMIT {SOME}").rows]
    numbers = [chance.randrange(queries) for _ in range(SOME)]
    rollouts, answers = ([str(row[at]) for row in found] for at in (1, 2))
    kinds = [f"disagreements?kind={kind}" for kind in ("truth", "votes", "model", "step")]
    return {
        "Memory": [""],
        "Queries": ["queries", *(f"queries?after={name}" for name in ids)],
        "Queries of a dataset": [f"queries?dataset=dataset-{number}" for number in range(8)],
        "Queries of a domain": ["queries?domain=qa", "queries?domain=other"],
        "Queries with labels": ["queries?labels=some", *(f"queries?labels=some&after={name}" for name in ids)],
        "Queries without labels": ["queries?labels=none", *(f"queries?labels=none&after={name}" for name in ids)],
        "Queries, two filters": [f"queries?dataset=dataset-{number}&labels=some" for number in range(8)],
        "search a text": [f"queries?search=Problem+{number}" for number in numbers],
        "search a text that is nowhere": ["queries?search=nowhere+to+be+found"],
        "search a key": [f"queries?where=key&search=large/{number}" for number in numbers],
        "search an answer": [f"queries?where=answer&search={number % 1000}" for number in numbers],
        "go to an id": [f"queries?search={name}" for name in ids],
        "a query": [f"query/{name}" for name in ids],
        "a query of 5,010 rollouts": [f"query/{big}"],
        "one answer of it": [f"query/{big}?answer={answer}" for answer in _answers(memory, big)],
        "Timeline": [f"query/{name}/timeline" for name in ids],
        "Timeline of 5,010 rollouts": [f"query/{big}/timeline"],
        "a rollout": [f"rollout/{name}" for name in rollouts],
        "a rollout with evidence": [f"rollout/{row[0]}" for row in explained],
        "an answer": [f"answer/{name}" for name in answers],
        "a policy": [f"policy/{name}" for name in policies],
        "Propagation": [f"propagation?node={name}" for name in (*ids, *rollouts, *answers)],
        "Propagation of 5,010 rollouts": [f"propagation?node={big}"],
        "Propagation of a policy": [f"propagation?node={name}" for name in policies],
        "Queue": ["queue"],
        "Queue, a query of choice": [f"queue?query={name}" for name in ids],
        "Disagreements": [f"{kind}&sort={order}" for kind in kinds for order in ("gap", "rollouts", "query")],
        "Training": ["training"],
        "Evaluation": ["evaluation"],
        "Cypher, empty": ["cypher"],
        "Cypher, 20 rows": [f"cypher?query={NAMED}"],
        "Cypher, drawn": [f"cypher?draw=1&query={NAMED}"],
    }


def _answers(memory: Memory, query: str) -> list[str]:
    pattern = "MATCH (q:Query)-[:GENERATES]->(:Thinking)-[:LEADS_TO]->(a:Answer) WHERE q.id = $q RETURN DISTINCT a.id"
    return [str(row[0]) for row in memory.cypher(pattern, {"q": query}).rows]


class Pages:
    """The pages in a browser's place."""

    def __init__(self, endpoint: str) -> None:
        self._web = httpx.Client(base_url=endpoint, follow_redirects=True, timeout=600)
        self._token = ""
        self.get("queue")
        self.post("queue/name", name="benchmark")

    def get(self, address: str) -> tuple[float, str]:
        """Seconds until a page has come, and its text; a redirect counts with the page that it leads to."""
        started = time.perf_counter()
        response = self._web.get(address)
        took = time.perf_counter() - started
        response.raise_for_status()
        if token := re.search(r'name="csrf" value="([^"]+)"', response.text):
            self._token = token[1]
        return took, response.text

    def post(self, address: str, **form: str) -> float:
        """Seconds of a form."""
        started = time.perf_counter()
        response = self._web.post(address, data={**form, "csrf": self._token})
        took = time.perf_counter() - started
        if response.is_error:
            response.raise_for_status()
        return took


@contextmanager
def served(folder: Path) -> Iterator[tuple[Pages, int]]:
    """The pages, and the id of the process that serves them."""
    command = [MEMSTORE, "inspect", str(folder), "--port", "0", "--json", "--no-rescore"]
    with (folder.parent / "pages.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        lines = list(itertools.takewhile(lambda line: line != "}\n", process.stdout))
        yield Pages(json.loads("".join(lines) + "}")["endpoint"]), process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def computing(pages: Pages) -> set[str]:
    """What covers the whole memory and is not there yet."""
    return {name for name, address in COMPUTED.items() if "data-reload" in pages.get(address)[1]}


def measure(
    pages: Pages, process: int, of: dict[str, list[str]], hits: int, most: float
) -> dict[str, dict[str, list[float]]]:
    """Seconds by page, for the first hit, while the background works, and after it."""
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in of}
    for name, each in of.items():
        found[name]["cold"].append(pages.get(each[0])[0])
    turns = {name: itertools.cycle(each) for name, each in of.items()}
    started, waiting, ready = time.perf_counter(), set(COMPUTED), {}
    while waiting:
        for name in of:
            found[name]["counting"].append(pages.get(next(turns[name]))[0])
        still = computing(pages)
        ready |= dict.fromkeys(waiting - still, time.perf_counter() - started)
        waiting = still
    print("\n".join(f"{name} is ready after {seconds:.1f} s" for name, seconds in ready.items()))
    for _ in range(hits):
        for name in of:
            if sum(found[name]["then"]) < most:
                before = cpu_s(process)
                found[name]["then"].append(pages.get(next(turns[name]))[0])
                found[name]["cpu"].append(cpu_s(process) - before)
    return found


def label(pages: Pages) -> dict[str, list[float]]:
    """Choose a queue, then time the next query and verdicts, which are undone."""
    seconds: dict[str, list[float]] = defaultdict(list)
    seconds["begin to choose a queue"].append(pages.post("queue/choose", criterion="training"))
    started = time.perf_counter()
    text = pages.get("queue")[1]
    while "Queries are being chosen" in text:
        time.sleep(0.2)
        text = pages.get("queue")[1]
    seconds["until the queue is chosen (background)"].append(time.perf_counter() - started)
    for _ in range(10):
        took, text = pages.get("queue")
        seconds["Queue, the next query"].append(took)
        form = dict(re.findall(r'name="(query|shown|state)" value="([^"]+)"', text))
        assert "query" in form, text
        seconds["a verdict"].append(pages.post("queue/press", **form, key="1"))
        seconds["undo"].append(pages.post("queue/press", **form, key="u"))
        pages.post("queue/press", **form, key="s")
    return seconds


def print_table(found: dict[str, dict[str, list[float]]]) -> None:
    print("\n| page | cold ms | counting, longest ms | p50 ms | p99 ms | hits | CPU ms | within 300 ms |")
    print("|---|--:|--:|--:|--:|--:|--:|---|")
    for name, seconds in found.items():
        p50, p99 = (1000 * float(np.quantile(seconds["then"], q)) for q in (0.5, 0.99))
        first = [f"{1000 * max(seconds[kind], default=0):.0f}" for kind in ("cold", "counting")]
        met = "yes" if p99 <= 1000 * BAR_S else "p50" if p50 <= 1000 * BAR_S else "no"
        cpu = 1000 * float(np.mean(seconds["cpu"]))
        print(f"| {name} | {' | '.join(first)} | {p50:.0f} | {p99:.0f} | {len(seconds['then'])} | {cpu:.0f} | {met} |")


def cpu_s(process: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(process: int) -> float:
    """Largest memory of a process so far."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the memory is made, and kept")
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--hits", type=int, default=40)
    parser.add_argument("--most", type=float, default=10.0, help="seconds for the hits of one page")
    options = parser.parse_args()
    with build(options.folder, options.queries) as memory:
        print(", ".join(f"{count:,} {name}" for name, count in sizes(memory).items()))
        of = addresses(memory, options.queries)
    with served(options.folder / "memory") as (pages, process):
        found: dict[str, Any] = measure(pages, process, of, options.hits, options.most)
        labelling = label(pages)
        print(f"the pages took {peak_mb(process):,.0f} MB at most")
    print_table(found)
    print("\n| labelling | p50 ms | longest ms |\n|---|--:|--:|")
    for name, seconds in labelling.items():
        print(f"| {name} | {1000 * float(np.median(seconds)):.0f} | {1000 * max(seconds):.0f} |")


if __name__ == "__main__":
    main()
