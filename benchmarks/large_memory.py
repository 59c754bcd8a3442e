"""An embedded memory of any size, made in parts, so that a build that was ended goes on where it stopped.

Each query has 10 rollouts: five of a step of a run and five of a later one. Query 0 has `MANY` more. Texts are short
words, vectors their hashes, and one query in 30 is labelled. Rollouts enter through the ingest. Links, the scores of
two models, and evidence are random, and are written by the same methods of the graph that `link`, `score` and `explain`
use: to compute them would take hours, and a page only reads them.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memstore.graph.protocol import InfluenceUpdate, LinkUpdate, ScoreBatch
from memstore.memory import Memory
from memstore.pipeline.ingest import IngestOptions
from memstore.testing.embedder import HashEmbedder
from memstore_schema.columns import EdgeType, NodeLabel

ROLLOUTS_A_QUERY = 10
MANY = 5_000
"""Further rollouts of the first query."""
PART = 5_000
"""Queries of a part of the build."""
WRITTEN = 100_000
"""Nodes whose links or scores are written in one transaction."""
DATASETS, RUNS, POLICIES, STEPS = 8, 20, 4, 50
LABELLED = 30
"""One query in so many has labels."""
EXPLAINED = 1_000
"""Rollouts with evidence."""
DIMENSION, LINKS = 16, 5
SENTENCE = "the so then we have each total of apples number first next cost price hours days divide add left over"
WORDS = SENTENCE.split()
DOMAINS = ("math", "math", "qa", "other")


def build(folder: Path, queries: int) -> Memory:
    """Make or complete the memory in `folder`, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    memory = Memory.open(folder / "memory", create=True, embedder=HashEmbedder(DIMENSION))
    stages: dict[str, Callable[[], None]] = {
        f"queries {first:,} to {min(queries, first + PART):,}": lambda first=first: _ingest(  # type: ignore[misc]
            memory, folder, first, min(queries, first + PART)
        )
        for first in range(0, queries, PART)
    }
    stages |= {
        "links of queries": lambda: _link(memory, NodeLabel.QUERY),
        "links of rollouts": lambda: _link(memory, NodeLabel.THINKING),
        "scores of the first model": lambda: _score(memory, 1),
        "scores of the second model": lambda: _score(memory, 2),
        "evidence": lambda: _explain(memory),
    }
    done = folder / "done.json"
    finished: list[str] = json.loads(done.read_text()) if done.exists() else []
    for name, stage in stages.items():
        if name in finished:
            continue
        started = time.perf_counter()
        stage()
        finished.append(name)
        done.write_text(json.dumps(finished))
        print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    return memory


def rows(first: int, end: int) -> Iterator[dict[str, Any]]:
    """The rollouts of some queries."""
    for number in range(first, end):
        chance = np.random.default_rng(number)
        right, skill = int(chance.integers(1_000)), chance.uniform(0.2, 0.95)
        samples = ROLLOUTS_A_QUERY + (MANY if number == 0 else 0)
        drawn = chance.integers(0, len(WORDS), (samples + 1, 24))
        hit, wrong = chance.random(samples) < skill, chance.integers(1_000, 1_006, samples)
        common = {
            "query_id": f"large/{number}",
            "dataset": f"dataset-{number % DATASETS}",
            "domain": DOMAINS[number % len(DOMAINS)],
            "query": f"Problem {number}: {_words(drawn[-1])}?",
            "policy": f"policy-{number % POLICIES}",
            "run": f"run-{number % RUNS}",
        }
        for sample in range(samples):
            answer = right if hit[sample] else int(wrong[sample])
            yield {
                **common,
                "thinking": f"{_words(drawn[sample])}. So {number} gives {answer}, attempt {sample}.",
                "answer": str(answer),
                "step": number % STEPS + (STEPS if sample % 2 else 0),
                "sample_index": sample // 2,
                "reward": float(answer == right) if number % LABELLED == 0 else None,
            }


def _words(drawn: np.ndarray) -> str:
    return " ".join(WORDS[at] for at in drawn)


def _ingest(memory: Memory, folder: Path, first: int, end: int) -> None:
    path = folder / f"part-{first}.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(first, end))
    memory.ingest([path], IngestOptions(link=False))
    path.unlink()


def _link(memory: Memory, label: NodeLabel) -> None:
    """Give each node links to others, drawn at random, and mark it as linked."""
    ids, chance = memory.graph.nodes(label, ["id"])["id"].combine_chunks(), np.random.default_rng(0)
    for start in range(0, len(ids), WRITTEN):
        own = ids[start : start + WRITTEN]
        source = np.repeat(np.arange(len(own)), LINKS)
        target = chance.integers(0, len(ids), len(source))
        score = np.sort(chance.uniform(0.3, 0.95, (len(own), LINKS)).astype(np.float32), axis=1)
        edges = {"source": own.take(pa.array(source)), "target": ids.take(pa.array(target)), "score": score.ravel()}
        update = LinkUpdate(label, own.to_pylist(), pa.table(edges), own.to_pylist(), memory.stores.link_mark)
        memory.graph.replace_links(update)
    memory.graph.checkpoint()


def _model(number: int) -> dict[str, Any]:
    """Properties of a model that has no files."""
    return {
        "id": f"m-{number:012x}",
        "version": number,
        "snapshot": "s-none",
        "metrics": "{}",
        "path": f"models/m-{number:012x}",
        "created_at": dt.datetime(2026, 1, number, tzinfo=dt.UTC),
    }


def _score(memory: Memory, number: int) -> None:
    ids, chance = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"].combine_chunks(), np.random.default_rng(number)
    for start in range(0, len(ids), 3 * WRITTEN):
        own = ids[start : start + 3 * WRITTEN]
        p = chance.uniform(0, 1, len(own))
        scores = pa.table({"id": own, "probability": p, "reward": p, "source": ["predicted"] * len(own)})
        memory.graph.append_scores(ScoreBatch(_model(number), scores))
    memory.graph.checkpoint()


def _explain(memory: Memory) -> None:
    """Give some rollouts evidence: other rollouts, and their policies' answers."""
    ids, chance = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"].combine_chunks(), np.random.default_rng(0)
    explained = ids[:EXPLAINED]
    source = np.repeat(np.arange(len(explained)), LINKS)
    edges = {
        "source": explained.take(pa.array(source)),
        "target": ids.take(pa.array(chance.integers(0, len(ids), len(source)))),
        "weight": chance.normal(0, 0.2, len(source)),
        "effect": chance.normal(0, 0.05, len(source)),
    }
    table = pa.table(edges)
    memory.graph.replace_influences(
        InfluenceUpdate(str(_model(2)["id"]), explained.to_pylist(), {NodeLabel.THINKING: table})
    )
    memory.graph.checkpoint()


def sizes(memory: Memory) -> dict[str, int]:
    """Numbers of nodes and of scores."""
    labels = {"queries": NodeLabel.QUERY, "rollouts": NodeLabel.THINKING, "answers": NodeLabel.ANSWER}
    found = {name: len(memory.graph.nodes(label, ["id"])) for name, label in labels.items()}
    ends = EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL
    return {**found, "scores": len(memory.graph.edges(*ends, []))}


if __name__ == "__main__":
    build(Path(sys.argv[1]), int(sys.argv[2])).close()
