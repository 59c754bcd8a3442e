"""A policy that learns in seconds on a CPU: it chooses among the sample's rollouts of a problem.

    python examples/reproduce/sample_policy.py serve --port 8000
    python examples/reproduce/sample_policy.py train --data FILE --mode memory --memory MEMORY --output FOLDER

The transformer of examples/sample_rollouts wrote sixteen rollouts of each problem. This policy is log-linear over them:
the probability of a rollout is proportional to exp(sum of the weights of its lines), where a line counts without its
numbers and its subject ("fetches #, so add #"). Without weights, the policy is the transformer, up to the drawn
rollouts. Training is GRPO with exact gradients: whole groups, rewards of a memory, the advantage less the group's mean.

`serve` is an OpenAI-compatible endpoint. The model's name is `start`, or the folder of a checkpoint.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from memstore.records.ids import query_id
from memstore.sample import sample_path

START, WEIGHTS = "start", "policy.json"
RATE = 0.3
_NUMBER = re.compile(r"\d+")


@cache
def rollouts() -> dict[str, list[str]]:
    """The sample's responses to each problem, by the id of the query."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in (sample_path("arithmetic"), sample_path("arithmetic_new")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                found[query_id(row["query"])].append(row["response"])
    return found


def lines_of(response: str) -> list[str]:
    """The lines of a response without subject and numbers, and without what they compute."""
    texts = [line.split(":")[0].split(" ", 1)[-1] for line in response.splitlines() if ":" in line]
    return [_NUMBER.sub("#", text) for text in texts]


class Policy:
    """Weights of lines."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights = defaultdict(float, weights or {})

    @classmethod
    def load(cls, name: str) -> Policy:
        """The start, or a checkpoint."""
        return cls() if name == START else cls(json.loads((Path(name) / WEIGHTS).read_text(encoding="utf-8")))

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_text(json.dumps(self.weights, sort_keys=True, indent=0) + "\n", encoding="utf-8")

    def probabilities(self, responses: Sequence[str], temperature: float = 1.0) -> list[float]:
        """The probability of each response."""
        scores = [sum(self.weights[line] for line in lines_of(text)) / temperature for text in responses]
        shifted = [math.exp(score - max(scores)) for score in scores]
        return [value / sum(shifted) for value in shifted]

    def respond(self, query: str, temperature: float, seed: int) -> str:
        """A response to a query; with temperature 0 the most probable one.

        Raises:
            KeyError: the sample has no rollouts of this query.
        """
        responses = rollouts()[query]
        chances = self.probabilities(responses, temperature or 1.0)
        if not temperature:
            totals: dict[str, float] = defaultdict(float)
            for text, chance in zip(responses, chances, strict=True):
                totals[text] += chance
            return max(totals, key=lambda text: totals[text])
        return random.Random(f"{seed} {query}").choices(responses, chances)[0]

    def learn(self, groups: Sequence[tuple[str, list[str], list[float]]], rate: float) -> None:
        """One step of GRPO: for each query its responses and their rewards."""
        gradient: dict[str, float] = defaultdict(float)
        for query, drawn, rewards in groups:
            mean = sum(rewards) / len(rewards)
            expected: dict[str, float] = defaultdict(float)
            responses = rollouts()[query]
            for text, chance in zip(responses, self.probabilities(responses), strict=True):
                for line in lines_of(text):
                    expected[line] += chance
            for text, reward in zip(drawn, rewards, strict=True):
                for line in lines_of(text):
                    gradient[line] += reward - mean
                for line, value in expected.items():
                    gradient[line] -= (reward - mean) * value
        for line, value in gradient.items():
            self.weights[line] += rate * value


def train(options: argparse.Namespace) -> None:
    """Train from the start on a file of `memstore verl data`, and write the checkpoint."""
    import pyarrow.parquet as pq

    from memstore_rl.rewards.group import GroupScorer
    from memstore_rl.trainers.trl import reward_function

    rows = pq.read_table(options.data).to_pylist()
    policy, size = Policy(), options.batch_size
    place = {"location": options.memory, "model": options.model or None} if options.mode == "memory" else {}
    with GroupScorer.open(**place, mode=options.mode, shaping=options.shaping, device="cpu") as scorer:
        rewards = reward_function(scorer, num_generations=options.n, scale_rewards="none")
        for step in range(options.steps):
            batch = [rows[(step * size + number) % len(rows)] for number in range(size)]
            groups = []
            for number, row in enumerate(batch):
                query = row["extra_info"]["query_id"]
                seeds = [
                    ((options.seed * options.steps + step) * size + number) * options.n + k for k in range(options.n)
                ]
                groups.append((query, [policy.respond(query, 1.0, seed) for seed in seeds]))
            rated = _rated(rewards, batch, [drawn for _, drawn in groups], options.n)
            known = [(*group, values) for group, values in zip(groups, rated, strict=True) if values is not None]
            policy.learn(known, RATE)
    policy.save(options.output)


def _rated(
    rewards: Any, rows: Sequence[Mapping[str, Any]], drawn: Sequence[list[str]], n: int
) -> list[list[float] | None]:
    """The rewards of each group; None if one of them is unknown."""
    columns = ("prompt", "data_source", "reward_model", "extra_info")
    repeated = {name: [row[name] for row in rows for _ in range(n)] for name in columns}
    # A batch may hold a query twice; the function groups its rows by query, at most n at a time.
    values = rewards(
        prompts=repeated.pop("prompt"), completions=[text for group in drawn for text in group], **repeated
    )
    groups = [values[start : start + n] for start in range(0, len(values), n)]
    return [None if any(value is None for value in group) else group for group in groups]


def serve(options: argparse.Namespace) -> None:
    """Serve the start and every checkpoint until it is stopped."""
    from aiohttp import web

    policies: dict[str, Policy] = {}

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": START, "object": "model"}]})

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        name = body["model"]
        try:
            policy = policies.setdefault(name, policies.get(name) or Policy.load(name))
        except OSError:
            return web.json_response({"error": {"message": f"The model `{name}` does not exist."}}, status=404)
        query, first = query_id(body["messages"][-1]["content"]), int(body.get("seed", 0))
        if query not in rollouts():
            return web.json_response({"error": {"message": "the sample does not have this problem"}}, status=400)
        texts = [policy.respond(query, body.get("temperature", 1.0), first + k) for k in range(body.get("n", 1))]
        choices = [
            {"index": number, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for number, text in enumerate(texts)
        ]
        asked = sum(len(message["content"].split()) for message in body["messages"])
        usage = {"prompt_tokens": asked, "completion_tokens": sum(len(text.split()) for text in texts)}
        return web.json_response({"id": "sample", "model": name, "choices": choices, "usage": usage})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None, access_log=None)


def main() -> None:
    """Parse the options and run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    server = commands.add_parser("serve", help="serve the policies at an OpenAI-compatible endpoint")
    server.add_argument("--port", type=int, default=8000)
    server.set_defaults(do=serve)
    trainer = commands.add_parser("train", help="train from the start and write a checkpoint")
    trainer.add_argument("--data", required=True, help="a training file of memstore verl data")
    trainer.add_argument("--mode", required=True, choices=("oracle", "budget", "memory"))
    trainer.add_argument("--memory", help="the memory, for mode memory")
    trainer.add_argument("--model", help="id of the reward model; default: the one in use")
    trainer.add_argument("--shaping", default="residual", help="how a probability becomes a reward")
    trainer.add_argument("--n", type=int, default=8, help="rollouts of a group")
    trainer.add_argument("--batch-size", type=int, default=16, help="problems a step")
    trainer.add_argument("--steps", type=int, default=30)
    trainer.add_argument("--seed", type=int, default=0)
    trainer.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    trainer.set_defaults(do=train)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
