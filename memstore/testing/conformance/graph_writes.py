"""A fixed sequence of graph writes, for crash tests that compare a killed store with an intact one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from memstore.graph.protocol import GraphStore
from memstore.testing.conformance.graph_blocks import Rollout, make_block, make_labels, make_links, make_scores
from memstore_schema.columns import NodeLabel

Operation = Callable[[GraphStore], object]


def operations(count: int) -> Iterator[Operation]:
    """Blocks that overlap, links, scores, labels and checkpoints, in an order that is always the same."""
    chance = random.Random(5)
    rollouts: list[Rollout] = []
    for number in range(count):
        kind = number % 6
        if kind in (0, 1, 3):
            fresh = [
                Rollout(f"t{number:04}-{i}", f"q{chance.randrange(50)}", str(i % 3), text=chance.randbytes(2000).hex())
                for i in range(40)
            ]
            again = chance.sample(rollouts, min(10, len(rollouts)))
            rollouts += fresh
            yield _block(fresh + again, f"b{number}")
        elif kind == 2:
            some = [rollout.id for rollout in chance.sample(rollouts, 60)]
            others = [rollout.id for rollout in chance.sample(rollouts, 5)]
            yield _links(some, others)
        elif kind == 4:
            some = [rollout.id for rollout in chance.sample(rollouts, 20)]
            yield _scores(f"m{number}", number, some)
            yield _labels(some)
        else:
            yield lambda graph: graph.checkpoint()


def _block(rollouts: list[Rollout], batch: str) -> Operation:
    block = make_block(*rollouts, batch={"id": batch, "state": "done", "rows": len(rollouts)})
    return lambda graph: graph.write_block(block)


def _links(sources: list[str], targets: list[str]) -> Operation:
    neighbours = {a: {b: 0.5 for b in targets if b != a} for a in sources}
    return lambda graph: graph.replace_links(make_links(NodeLabel.THINKING, neighbours))


def _scores(model: str, version: int, ids: list[str]) -> Operation:
    return lambda graph: graph.append_scores(make_scores(model, version, dict.fromkeys(ids, 0.25)))


def _labels(ids: list[str]) -> Operation:
    return lambda graph: graph.set_labels(make_labels(dict.fromkeys(ids, 1.0)), replace=True)
