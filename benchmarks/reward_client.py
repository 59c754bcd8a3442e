"""Measures what the reward client costs a group, beside a plain POST of httpx with the same body.

    python benchmarks/reward_client.py [--groups 400] [--repetitions 9]

A server in a process of its own answers every request at once with the same response, so that only the client is
measured: building and checking the request, HTTP, and reading the rewards. Groups are 8 rollouts with 200 words of
thinking. `RewardClient` and `httpx.Client` are used by one caller and by 8 callers in threads, which share a client.

CPU is the time of the calling thread on the processor, over all repetitions. Wall time includes the waits for the
server and, on a busy machine, for other programs: it is that of the repetition with the smallest median. Load is the
number of processes that wanted to run in the last minute, before and after.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import NamedTuple

import httpx
import numpy as np
from service import ROLLOUTS, group

from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.service import wire
from memstore_rl.service.client import RewardClient


class Times(NamedTuple):
    """Milliseconds of each call."""

    cpu: list[float]
    wall: list[float]


def serve(address: Connection) -> None:
    """Answer every request with the rewards of one group; send the address first."""
    import socket

    import uvicorn

    reward = Reward(0.5, "predicted", 0.5, ROLLOUTS, short=False, model="m-1", known=True, latency_s=0.01, by_votes=0.5)
    content = wire.to_json(wire.ScoreResponse(rewards=((reward,) * ROLLOUTS,), recorded=1))

    async def answer(scope: dict[str, str], receive: Callable[..., object], send: Callable[..., object]) -> None:
        while (await receive()).get("more_body"):  # type: ignore[misc, attr-defined]
            pass
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})  # type: ignore[misc]
        await send({"type": "http.response.body", "body": content})  # type: ignore[misc]

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    address.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
    server = uvicorn.Server(uvicorn.Config(answer, log_level="error", lifespan="off", access_log=False))
    server.run([listener])


def calls(ask: Callable[[int], object], count: int, callers: int) -> Times:
    """Make `count` calls, shared by the callers; return what each took."""

    def one(number: int) -> tuple[float, float]:
        cpu, wall = time.thread_time(), time.perf_counter()
        ask(number)
        return 1000 * (time.thread_time() - cpu), 1000 * (time.perf_counter() - wall)

    with ThreadPoolExecutor(callers) as pool:
        cpu, wall = zip(*pool.map(one, range(count)), strict=True)
    return Times(list(cpu), list(wall))


def quantiles(values: list[float]) -> list[float]:
    return [round(float(np.quantile(values, q)), 2) for q in (0.5, 0.99)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=400, help="calls in a repetition")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    groups: list[Group] = [group(number, "client") for number in range(options.groups)]
    bodies = [wire.request_json([item], record=True) for item in groups]
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    there.close()  # so that a server that fails ends the wait for its address
    endpoint, before = here.recv(), os.getloadavg()[0]
    found: dict[tuple[str, int], list[Times]] = {}
    with RewardClient(endpoint) as client, httpx.Client(headers={"Content-Type": "application/json"}) as plain:
        ways: dict[str, Callable[[int], object]] = {
            "RewardClient": lambda number: client.score_group(groups[number]),
            "httpx": lambda number: plain.post(f"{endpoint}/v1/score", content=bodies[number]).content,
        }
        for _ in range(options.repetitions):
            for callers in (1, 8):
                for name, ask in ways.items():
                    found.setdefault((name, callers), []).append(calls(ask, options.groups, callers))
    server.terminate()
    print("| client | callers | CPU ms, mean | CPU ms, p50 | CPU ms, p99 | wall ms, p50 | wall ms, p99 |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for (name, callers), times in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        cpu = [value for one in times for value in one.cpu]
        calmest = min((one.wall for one in times), key=np.median)
        figures = [round(float(np.mean(cpu)), 2), *quantiles(cpu), *quantiles(calmest)]
        print(f"| {name} | {callers} | {' | '.join(map(str, figures))} |")
    size = round(float(np.mean([len(body) for body in bodies])) / 1000)
    print(json.dumps({"body_kB": size, "load": [round(before, 1), round(os.getloadavg()[0], 1)]}))


if __name__ == "__main__":
    main()
