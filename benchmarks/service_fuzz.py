"""Fuzzes the reward service with broken requests: each must get a 4xx with one sentence and leave the service intact.

    python benchmarks/service_fuzz.py [--requests 100000] [--socket 80000] [--seed 0] [--memory FOLDER]

A request starts valid and is then mutated: keys are removed, renamed or added, values become other JSON values, bytes
are cut, flipped or inserted, methods, routes and tokens are wrong. Some stay valid by chance, and only those must get
a 200. `--socket` requests go to a `memstore serve` process over TCP, some of them not even HTTP; the others go to the
same application in this process.

The exit code is 1 if a response is neither 200 nor 4xx or is not one sentence; if an invalid document is accepted; if
the journal lacks acknowledged rollouts, or the memory has more; if the memory changes before anything is recorded; if
a valid request fails at the end; or if memory use keeps growing: if its median in the last quarter is more than
`MAX_GROWTH_MIB` above that of the third quarter.

The first half is not checked. A recording service grows by about 100 MiB at its first write to the memory (threads and
code of the graph's writer, buffers of Arrow), and a little in the next rounds, while malloc's arenas fill up; with
`--no-record` it does not. A leak would grow forever; `MAX_GROWTH_MIB` in a quarter of 80,000 requests is 840 bytes per
request.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import itertools
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr, ValidationError

from memstore.memory import Memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.service import wire
from memstore_rl.service.app import make_app
from memstore_rl.service.journal import Journal
from memstore_rl.service.service import RewardService
from memstore_rl.service.texts import TextVectors

MEMSTORE = str(Path(sys.executable).with_name("memstore"))
TOKEN = "fuzzed-but-right"
MAX_GROWTH_MIB = 16
"""Maximum growth of memory use in the last quarter, in MiB."""
SAMPLES = 40
"""Number of samples of memory use."""
CONCURRENCY = 32
QUERIES = ("What is 2 + 3?", "Sam has 4 apples and eats 1. How many are left?", "Name the option: (a) 1 (b) 2")
RESPONSES = ("It is 5.\n#### 5", "4 - 1 = 3.\n#### 3", "\\boxed{7}", "(b)", "I do not know.")
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "\0", "x" * 5000,
    "\ud800", "\u202e\u0000\uffff", "math", "oracle", "1", [], {}, [[]], [None], {"": None}, {"groups": []},
)  # fmt: skip
BYTES = (b"\0", b"\xff\xfe", b"\xc3", b'"', b"}", b"]", b"{", b"[", b",", b"\\", b"\\ud800", b"1e999", b"NaN", b"\n")


@dataclass(frozen=True)
class FuzzRequest:
    """A request to send."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    raw: bytes | None = None
    """Raw bytes to send over a socket instead; None for a normal HTTP request."""


@dataclass
class Findings:
    """Counts of responses, and faults."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    recorded: int = 0

    def add(self, item: FuzzRequest, status: int, body: bytes) -> None:
        """Count a response and record its fault, if any."""
        self.statuses[str(status)] += 1
        fault = self._fault(item, status, body)
        if fault is not None:
            self.faults.append(f"{status} {body[:200]!r} for {item.method} {item.path} {item.body[:300]!r}: {fault}")

    def _fault(self, item: FuzzRequest, status: int, body: bytes) -> str | None:
        if status == 200:
            if item.path != "/v1/score":
                return None
            if not is_valid(item.body):
                return "an invalid document was accepted"
            self.recorded += int(json.loads(body)["recorded"])
            return None
        if not 400 <= status < 500:
            return "neither 200 nor 4xx"
        if item.raw is not None:
            return None
        try:
            message = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            return "no error message"
        return None if isinstance(message, str) and message.strip() and "\n" not in message else "not one sentence"


def is_valid(body: bytes) -> bool:
    """Whether the document is a valid request."""
    try:
        wire.ScoreRequest.model_validate_json(body)
    except ValidationError:
        return False
    return True


def valid_document(chance: random.Random) -> dict[str, Any]:
    """Create a valid document."""
    query: dict[str, Any] = {"text": chance.choice(QUERIES), "dataset": "fuzz", "domain": "math"}
    if chance.random() < 0.3:
        query["gold"] = chance.choice(("5", "3", "\\frac{1}{2}", "("))
    rollouts = [
        {
            "response": chance.choice(RESPONSES),
            "policy": "p",
            "run": "r",
            "step": chance.randrange(3),
            "sample_index": i,
        }
        for i in range(chance.randrange(1, 4))
    ]
    group = {"query": query, "rollouts": rollouts, "expected": 4, "record": chance.random() < 0.5}
    return {"groups": [group] * chance.randrange(1, 3)}


def locations(value: Any) -> list[tuple[Any, Any]]:
    """Return every container of a document with each of its keys or indices."""
    if isinstance(value, dict):
        return [(value, key) for key in value] + [location for part in value.values() for location in locations(part)]
    if isinstance(value, list):
        return [(value, index) for index in range(len(value))] + [
            location for part in value for location in locations(part)
        ]
    return []


def mutate_document(document: dict[str, Any], chance: random.Random) -> None:
    """Mutate a document at a random location."""
    found = locations(document)
    if not found:
        return
    container, key = chance.choice(found)
    way = chance.randrange(5)
    if way == 0:
        del container[key]
    elif way == 1 and isinstance(container, dict):
        container[chance.choice((f"{key}s", str(key).upper(), "", "golden", "reward"))] = container.pop(key)
    elif way == 2 and isinstance(container, dict):
        container[chance.choice(("metadata", "__class__", "0", "é"))] = copy.deepcopy(chance.choice(JUNK))
    elif way == 3:
        container[key] = json.loads("[" * 50 + "]" * 50) if chance.random() < 0.1 else [container[key]]
    else:
        container[key] = copy.deepcopy(chance.choice(JUNK))


def mutate_bytes(body: bytes, chance: random.Random) -> bytes:
    """Mutate bytes."""
    way, at = chance.randrange(6), chance.randrange(len(body) + 1)
    if way == 0:
        return body[:at]
    if way == 1:
        return body[:at] + chance.choice(BYTES) + body[at:]
    if way == 2 and body:
        at = min(at, len(body) - 1)
        return body[:at] + bytes([body[at] ^ (1 << chance.randrange(8))]) + body[at + 1 :]
    if way == 3:
        return chance.choice(
            (b"", b"null", b"[]", b"{}", b"0", b'"', b"\xef\xbb\xbf{}", b"[" * 5000, b'{"groups":' * 900)
        )
    if way == 4:
        return chance.randbytes(chance.randrange(200))
    return body[:at] + body[max(0, at - 20) :]


def request(number: int, seed: int) -> FuzzRequest:
    """Create the request with this number."""
    chance = random.Random(seed * 10**9 + number)
    document = valid_document(chance)
    document = json.loads(json.dumps(document))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        mutate_document(document, chance)
    body = json.dumps(document, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance.random() < 0.3:
        body = mutate_bytes(body, chance)
    method, path = "POST", "/v1/score"
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    if chance.random() < 0.05:
        method = chance.choice(("GET", "PUT", "DELETE", "PATCH"))
    if chance.random() < 0.05:
        path = chance.choice(
            ("/", "/v1", "/v1/scores", "/v1/score/", "/../etc/passwd", "/v1/score%00", "/" + "a" * 2000)
        )
    if chance.random() < 0.05:
        headers = chance.choice(({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic \xe9"}))
    if chance.random() < 0.1:
        headers = headers | {"Content-Type": chance.choice(("text/plain", "", "multipart/form-data", "\xff"))}
    return FuzzRequest(method, path, headers, body)


def broken_http(number: int, seed: int) -> FuzzRequest:
    """Create a request that is hardly HTTP."""
    chance = random.Random(seed * 10**9 - 1 - number)
    head = chance.choice(
        (
            b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
            b"POST /v1/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"POST /v1/score HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            chance.randbytes(100),
        )
    )
    return FuzzRequest("?", "?", {}, b"", mutate_bytes(head, chance) if chance.random() < 0.5 else head)


async def send_all(count: int, send: Callable[[int], Any], resident: Callable[[], float]) -> list[float]:
    """Send all requests, some concurrently; return `SAMPLES` samples of memory use in MiB."""
    held = []
    for start in range(0, count, CONCURRENCY):
        end = min(start + CONCURRENCY, count)
        await asyncio.gather(*(send(number) for number in range(start, end)))
        if SAMPLES * end // count > SAMPLES * start // count:
            held.append(resident())
    return held


def resident(process: int | str) -> float:
    """Return the resident memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


async def in_process(folder: Path, count: int, seed: int) -> Findings:
    """Fuzz the application in this process."""
    found = Findings()
    with Memory.open(folder) as memory, tempfile.TemporaryDirectory() as scratch:
        before = memory.snapshot().manifest.id
        texts, journal = TextVectors(memory.embedder, memory.cache), Journal(Path(scratch) / "journal.sqlite")
        with GroupScorer.open(memory, embed=texts.embed) as scorer:
            service = RewardService(scorer, journal)
            app = make_app(service, token=SecretStr(TOKEN))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:

                async def send(number: int) -> None:
                    item = request(number, seed)
                    headers = [(name.encode(), value.encode("latin-1")) for name, value in item.headers.items()]
                    response = await client.request(
                        item.method, "http://service" + item.path, headers=headers, content=item.body
                    )
                    found.add(item, response.status_code, response.content)

                held = await send_all(count, send, lambda: resident("self"))
                await check_valid_request(client, "http://service", found)
        if len(journal) != found.recorded:
            found.faults.append(f"{len(journal)} rollouts are in the journal, but {found.recorded} were acknowledged")
        if memory.snapshot().manifest.id != before:
            found.faults.append("the memory has changed")
        journal.close()
    report("in this process", found, held)
    return found


async def check_valid_request(client: httpx.AsyncClient, endpoint: str, found: Findings) -> None:
    """Check that a valid request still succeeds."""
    body = json.dumps(valid_document(random.Random(0))).encode()
    response = await client.post(
        f"{endpoint}/v1/score",
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        content=body,
        timeout=60,
    )
    if response.status_code != 200:
        found.faults.append(f"a valid request at the end got {response.status_code}: {response.text[:200]}")
    else:
        found.recorded += int(response.json()["recorded"])


async def over_socket(folder: Path, count: int, seed: int) -> Findings:
    """Fuzz a service process over TCP; it writes its journal to the memory when it stops."""
    found = Findings()
    before = rollouts(folder)
    command = [MEMSTORE, "serve", "--memory", str(folder), "--port", "0", "--json"]
    environment = {"MEMSTORE_SERVICE_TOKEN": TOKEN}
    with (folder.parent / "fuzz-service.log").open("ab") as log:
        process = subprocess.Popen(
            ["env", *(f"{name}={value}" for name, value in environment.items()), *command],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        lines = list(itertools.takewhile(lambda line: line != "}\n", process.stdout))
        endpoint = json.loads("".join(lines) + "}")["endpoint"]
        host, port = endpoint.removeprefix("http://").rsplit(":", 1)

        async def send(number: int) -> None:
            item = broken_http(number, seed) if number % 10 == 0 else request(number, seed + 1)
            status, body = await send_raw(host, int(port), item)
            if status:
                found.add(item, status, body)
            elif item.raw is not None:
                found.statuses["closed"] += 1
            else:
                found.faults.append(f"no response to {item.method} {item.path} {item.body[:200]!r}")

        held = await send_all(count, send, lambda: resident(process.pid))
        async with httpx.AsyncClient() as client:
            await check_valid_request(client, endpoint, found)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    added = rollouts(folder) - before
    if added > found.recorded:
        found.faults.append(f"{added} rollouts were added to the memory, but {found.recorded} were acknowledged")
    report("over TCP", found, held)
    return found


async def send_raw(host: str, port: int, item: FuzzRequest) -> tuple[int, bytes]:
    """Send a request; return status and body, with status 0 if the connection closed without a response."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if item.raw is None:
            head = {"Host": host, "Connection": "close", "Content-Length": str(len(item.body)), **item.headers}
            lines = [f"{item.method} {item.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + item.body)
        else:
            writer.write(item.raw)
            writer.write_eof()
        response = await asyncio.wait_for(reader.read(), 60)
    except (ConnectionError, TimeoutError):
        return 0, b""
    finally:
        writer.close()
    head_part, _, body = response.partition(b"\r\n\r\n")
    words = head_part.split(maxsplit=2)
    return (int(words[1]), body) if len(words) > 1 and words[1].isdigit() else (0, b"")


def rollouts(folder: Path) -> int:
    """Return the number of rollouts in a memory."""
    with Memory.open(folder) as memory:
        return int(memory.snapshot().thinkings.num_rows)


def report(where: str, found: Findings, held: list[float]) -> None:
    """Print the findings."""
    quarter = max(1, len(held) // 4)
    grown = statistics.median(held[-quarter:]) - statistics.median(held[-2 * quarter : -quarter])
    if grown > MAX_GROWTH_MIB:
        found.faults.append(f"memory use still grew in the last quarter, by {grown:.0f} MiB")
    counted = ", ".join(f"{status} {count:,}" for status, count in sorted(found.statuses.items()))
    print(f"{where}: {sum(found.statuses.values()):,} requests ({counted}), {len(found.faults)} faults")
    way = ", ".join(f"{mebibytes:.0f}" for mebibytes in held[:: max(1, len(held) // 10)])
    print(f"    {found.recorded:,} rollouts acknowledged; MiB over time: {way}; last quarter {grown:+.1f}")
    for fault in found.faults[:10]:
        print(f"    {fault}")
    sys.stdout.flush()


def main() -> None:
    """Create a memory and fuzz its service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--socket", type=int, default=80_000, help="number of them sent over TCP")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=Path, help="memory with a reward model; default: a new `memstore demo`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.memory
        if folder is None:
            folder = Path(scratch) / "memory"
            subprocess.run([MEMSTORE, "demo", "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL)
        socket_findings = asyncio.run(over_socket(folder, options.socket, options.seed))
        process_findings = asyncio.run(in_process(folder, options.requests - options.socket, options.seed))
    sys.exit(1 if socket_findings.faults or process_findings.faults else 0)


if __name__ == "__main__":
    main()
