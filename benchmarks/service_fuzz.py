"""A hundred thousand broken requests: each gets a 4xx in one sentence, and the service is as it was.

    python benchmarks/service_fuzz.py [--requests 100000] [--socket 80000] [--seed 0] [--memory FOLDER]

A request starts as a good one and is then spoilt: keys go missing, are renamed or invented, values become any other
JSON value, bytes are cut, flipped or put in, methods, routes and tokens are wrong. Some are good by chance: those get
a 200, and only those. `--socket` of them go to a `memstore serve` of their own over TCP, among them what is not even
HTTP; the others to the same application in this process.

It ends with 1 if an answer was neither 200 nor 4xx, was not one sentence, or took a document for good that the wire's
model refuses; if the journal does not hold what was acknowledged, or the memory more than that; if the memory is
another one before anything was recorded; if a good request is not answered at the end; or if the service keeps growing:
if what it holds in the last quarter (median) is more than `MAY_GROW` above what it held in the third.

The first half is not judged. A service that records takes a step of about 100 MiB when it first writes to the memory
(threads and code of the graph's writer, buffers of Arrow), and some more in the next rounds, while malloc's arenas fill
with what was freed and will be used again; with `--no-record` there is no such step. A leak would go on, a byte a
request for ever; `MAY_GROW` in a quarter of 80,000 requests is 840 bytes a request.
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
MAY_GROW = 16
"""MiB."""
LOOKS = 40
"""How often it is looked what the service holds."""
AT_ONCE = 32
QUERIES = ("What is 2 + 3?", "Sam has 4 apples and eats 1. How many are left?", "Name the option: (a) 1 (b) 2")
RESPONSES = ("It is 5.\n#### 5", "4 - 1 = 3.\n#### 3", "\\boxed{7}", "(b)", "I do not know.")
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "\0", "x" * 5000,
    "\ud800", "\u202e\u0000\uffff", "math", "oracle", "1", [], {}, [[]], [None], {"": None}, {"groups": []},
)  # fmt: skip
BYTES = (b"\0", b"\xff\xfe", b"\xc3", b'"', b"}", b"]", b"{", b"[", b",", b"\\", b"\\ud800", b"1e999", b"NaN", b"\n")


@dataclass(frozen=True)
class Asked:
    """A request, and whether it is HTTP at all."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    raw: bytes | None = None
    """What is sent over a socket instead."""


@dataclass
class Found:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    recorded: int = 0

    def add(self, asked: Asked, status: int, body: bytes) -> None:
        """Count an answer, and note what is wrong with it."""
        self.statuses[str(status)] += 1
        fault = self._fault(asked, status, body)
        if fault is not None:
            self.faults.append(f"{status} {body[:200]!r} for {asked.method} {asked.path} {asked.body[:300]!r}: {fault}")

    def _fault(self, asked: Asked, status: int, body: bytes) -> str | None:
        if status == 200:
            if asked.path != "/v1/score":
                return None
            if not is_good(asked.body):
                return "a document that the wire's model refuses was scored"
            self.recorded += int(json.loads(body)["recorded"])
            return None
        if not 400 <= status < 500:
            return "neither 200 nor 4xx"
        if asked.raw is not None:
            return None
        try:
            said = json.loads(body)["error"]
        except (ValueError, KeyError, TypeError):
            return "no sentence"
        return None if isinstance(said, str) and said.strip() and "\n" not in said else "not one sentence"


def is_good(body: bytes) -> bool:
    """Does the wire's model take this document?"""
    try:
        wire.ScoreRequest.model_validate_json(body)
    except ValidationError:
        return False
    return True


def good(chance: random.Random) -> dict[str, Any]:
    """A document that can be scored."""
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


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys or positions."""
    if isinstance(value, dict):
        return [(value, key) for key in value] + [place for part in value.values() for place in places(part)]
    if isinstance(value, list):
        return [(value, index) for index in range(len(value))] + [place for part in value for place in places(part)]
    return []


def spoil(document: dict[str, Any], chance: random.Random) -> None:
    """Break a document, or hope to."""
    found = places(document)
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


def scramble(body: bytes, chance: random.Random) -> bytes:
    """Break bytes."""
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


def request(number: int, seed: int) -> Asked:
    """The request of this number."""
    chance = random.Random(seed * 10**9 + number)
    document = good(chance)
    document = json.loads(json.dumps(document))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        spoil(document, chance)
    body = json.dumps(document, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance.random() < 0.3:
        body = scramble(body, chance)
    method, path, headers = "POST", "/v1/score", {"Authorization": f"Bearer {TOKEN}"}
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
    return Asked(method, path, headers, body)


def broken_http(number: int, seed: int) -> Asked:
    """Something that is hardly HTTP."""
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
    return Asked("?", "?", {}, b"", scramble(head, chance) if chance.random() < 0.5 else head)


async def in_turn(count: int, ask: Callable[[int], Any], resident: Callable[[], float]) -> list[float]:
    """All requests, some at once; MiB that the service holds, `LOOKS` times on the way."""
    held = []
    for start in range(0, count, AT_ONCE):
        end = min(start + AT_ONCE, count)
        await asyncio.gather(*(ask(number) for number in range(start, end)))
        if LOOKS * end // count > LOOKS * start // count:
            held.append(resident())
    return held


def resident(process: int | str) -> float:
    """MiB of memory that a process holds."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


async def in_process(folder: Path, count: int, seed: int) -> Found:
    """Ask the application itself."""
    found = Found()
    with Memory.open(folder) as memory, tempfile.TemporaryDirectory() as scratch:
        before = memory.snapshot().manifest.id
        texts, journal = TextVectors(memory.embedder, memory.cache), Journal(Path(scratch) / "journal.sqlite")
        with GroupScorer.open(memory, embed=texts.embed) as scorer:
            service = RewardService(scorer, journal)
            app = make_app(service, token=SecretStr(TOKEN))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client:

                async def ask(number: int) -> None:
                    asked = request(number, seed)
                    headers = [(name.encode(), value.encode("latin-1")) for name, value in asked.headers.items()]
                    answer = await client.request(
                        asked.method, "http://service" + asked.path, headers=headers, content=asked.body
                    )
                    found.add(asked, answer.status_code, answer.content)

                held = await in_turn(count, ask, lambda: resident("self"))
                await alive(client, "http://service", found)
        if len(journal) != found.recorded:
            found.faults.append(f"{len(journal)} rollouts are in the journal and {found.recorded} were acknowledged")
        if memory.snapshot().manifest.id != before:
            found.faults.append("the memory is not as it was")
        journal.close()
    told("in this process", found, held)
    return found


async def alive(client: httpx.AsyncClient, endpoint: str, found: Found) -> None:
    """A good request must be answered after all this."""
    body = json.dumps(good(random.Random(0))).encode()
    answer = await client.post(
        f"{endpoint}/v1/score", headers={"Authorization": f"Bearer {TOKEN}"}, content=body, timeout=60
    )
    if answer.status_code != 200:
        found.faults.append(f"a good request at the end got {answer.status_code}: {answer.text[:200]}")
    else:
        found.recorded += int(answer.json()["recorded"])


async def over_socket(folder: Path, count: int, seed: int) -> Found:
    """Ask a service of its own over TCP; it records what it acknowledges when it stops."""
    found = Found()
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

        async def ask(number: int) -> None:
            asked = broken_http(number, seed) if number % 10 == 0 else request(number, seed + 1)
            status, body = await sent(host, int(port), asked)
            if status:
                found.add(asked, status, body)
            elif asked.raw is not None:
                found.statuses["hung up"] += 1
            else:
                found.faults.append(f"no answer to {asked.method} {asked.path} {asked.body[:200]!r}")

        held = await in_turn(count, ask, lambda: resident(process.pid))
        async with httpx.AsyncClient() as client:
            await alive(client, endpoint, found)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    added = rollouts(folder) - before
    if added > found.recorded:
        found.faults.append(f"{added} rollouts came into the memory and {found.recorded} were acknowledged")
    told("over TCP", found, held)
    return found


async def sent(host: str, port: int, asked: Asked) -> tuple[int, bytes]:
    """Status and body of the answer; 0 where the service hung up without one."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if asked.raw is None:
            head = {"Host": host, "Connection": "close", "Content-Length": str(len(asked.body)), **asked.headers}
            lines = [f"{asked.method} {asked.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + asked.body)
        else:
            writer.write(asked.raw)
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 60)
    except (ConnectionError, TimeoutError):
        return 0, b""
    finally:
        writer.close()
    head_part, _, body = answer.partition(b"\r\n\r\n")
    words = head_part.split(maxsplit=2)
    return (int(words[1]), body) if len(words) > 1 and words[1].isdigit() else (0, b"")


def rollouts(folder: Path) -> int:
    """How many rollouts a memory holds."""
    with Memory.open(folder) as memory:
        return int(memory.snapshot().thinkings.num_rows)


def told(where: str, found: Found, held: list[float]) -> None:
    """Print what came back."""
    quarter = max(1, len(held) // 4)
    grown = statistics.median(held[-quarter:]) - statistics.median(held[-2 * quarter : -quarter])
    if grown > MAY_GROW:
        found.faults.append(f"the service still grew in the last quarter, by {grown:.0f} MiB")
    counted = ", ".join(f"{status} {count:,}" for status, count in sorted(found.statuses.items()))
    print(f"{where}: {sum(found.statuses.values()):,} requests ({counted}), {len(found.faults)} faults")
    way = ", ".join(f"{mebibytes:.0f}" for mebibytes in held[:: max(1, len(held) // 10)])
    print(f"    {found.recorded:,} rollouts acknowledged; MiB on the way: {way}; in the last quarter {grown:+.1f}")
    for fault in found.faults[:10]:
        print(f"    {fault}")
    sys.stdout.flush()


def main() -> None:
    """Make a memory and fuzz its service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--socket", type=int, default=80_000, help="how many of them go over TCP")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=Path, help="a memory with a reward model; made with `memstore demo` if absent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.memory
        if folder is None:
            folder = Path(scratch) / "memory"
            subprocess.run([MEMSTORE, "demo", "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL)
        apart = asyncio.run(over_socket(folder, options.socket, options.seed))
        inside = asyncio.run(in_process(folder, options.requests - options.socket, options.seed))
    sys.exit(1 if apart.faults or inside.faults else 0)


if __name__ == "__main__":
    main()
