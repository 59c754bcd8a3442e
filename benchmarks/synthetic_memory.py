"""A synthetic memory as a snapshot, without a store, to time reward models at sizes beyond the real data.

A query has 8 rollouts, two of each of four policies. A thinking is six sentences with words and sums, about 500
characters. Right answers agree and wrong ones scatter. Ids are positions; vectors are unit vectors around cluster
centres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from synthetic import ROLLOUTS_A_QUERY, clustered

from memstore.graph.protocol import EdgeTable
from memstore.graph.verdicts import GROUND_TRUTH
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.snapshots.take import complete_edges
from memstore_schema.columns import TIME

SENTENCES, SENTENCES_A_THINKING, WORDS_A_SENTENCE = 4000, 6, 12
QUERY_SENTENCES = 3
QUERIES_A_CLUSTER = 50
POLICIES, POLICIES_A_QUERY = 12, 4


def memory_of(queries: int, seed: int = 0, first: int = 0, each: int = ROLLOUTS_A_QUERY) -> Snapshot:
    """A memory of `queries` x `each` rollouts, all with a reward; ids start at `first`."""
    rng = np.random.default_rng(seed)
    rollouts = queries * each
    pool = np.array(sentences(WORDS_A_SENTENCE), dtype=object)
    query = np.repeat(np.arange(queries), each)
    truth = rng.integers(0, 1000, queries)
    skill = np.repeat(rng.uniform(0.2, 0.95, queries), each)
    right = rng.random(rollouts) < skill
    value = np.where(right, truth[query], truth[query] + rng.integers(1, 50, rollouts))
    pairs, answer = np.unique(np.stack((query, value)), axis=1, return_inverse=True)
    numbers = [str(number) for number in value]
    thinkings = pa.table(
        {
            "id": _ids("t", rollouts, first * each),
            "text": pa.array(_texts(rng, pool, rollouts, SENTENCES_A_THINKING, numbers), pa.string()),
            "dataset": pa.array(["synthetic"] * rollouts),
            "query_key": pa.nulls(rollouts, pa.string()),
            "policy": pa.array([f"policy-{number}" for number in _policies(query).tolist()]),
            "run": pa.array(["run"] * rollouts),
            "step": pa.nulls(rollouts, pa.int64()),
            "sample_index": pa.array(np.tile(np.arange(each), queries)),
            "reward": pa.array(right.astype(np.float64)),
            "reward_source": pa.array([GROUND_TRUTH] * rollouts),
            "created_at": pa.nulls(rollouts, TIME),
            "vector_key": _ids("v", rollouts, first * each),
        }
    )
    texts = _texts(rng, pool, queries, QUERY_SENTENCES, [str(number) for number in range(queries)])
    domain = pa.array(["math"] * queries)
    tables = {
        "queries": pa.table({"id": _ids("q", queries, first), "text": pa.array(texts, pa.string()), "domain": domain}),
        "answers": pa.table(
            {"id": _ids("a", pairs.shape[1], first), "value": pa.array([str(number) for number in pairs[1]])}
        ),
    }
    x = clustered(queries + rollouts, queries // QUERIES_A_CLUSTER + 1, rng)
    every = np.arange(rollouts)
    leads = EdgeTable(every, answer.ravel(), pa.table({"text": pa.array(numbers)}))
    return _snapshot(
        tables, thinkings, {"generates": _edges(query, every), "leads_to": leads}, x[:queries], x[queries:]
    )


def _policies(query: np.ndarray) -> np.ndarray:
    """The policy of each rollout (`query` is int64 [T]), int64 [T]."""
    sample = np.arange(len(query)) % ROLLOUTS_A_QUERY
    return (query + sample * POLICIES_A_QUERY // ROLLOUTS_A_QUERY) % POLICIES


def _snapshot(
    tables: dict[str, pa.Table], thinkings: pa.Table, edges: dict[str, EdgeTable], query_x: np.ndarray, x: np.ndarray
) -> Snapshot:
    names = pa.table({name: pa.nulls(len(query_x), pa.string()) for name in ("key", "split")})
    aliases = EdgeTable(np.arange(len(query_x)), np.zeros(len(query_x), np.int64), names)
    return Snapshot(
        manifest=Manifest("s-synthetic", 1, "synthetic", "none", "none", "default", "2026-01-01T00:00:00Z"),
        thinkings=thinkings,
        runs=pa.table({"id": pa.array([], pa.string())}),
        reward_models=pa.table({"id": pa.array([], pa.string())}),
        policies=pa.table({"id": pa.array([], pa.string())}),
        datasets=pa.table({"id": ["d-synthetic"], "name": ["synthetic"]}),
        edges=complete_edges({**edges, "in": aliases}),
        query_x=query_x,
        thinking_x=x,
        query_has_x=np.ones(len(query_x), np.bool_),
        thinking_has_x=np.ones(len(x), np.bool_),
        **tables,
    )


def _edges(source: np.ndarray, target: np.ndarray) -> EdgeTable:
    return EdgeTable(source, target, pa.table({}))


def _ids(kind: str, count: int, first: int) -> pa.Array:
    return pa.array([f"{kind}-{number:010d}" for number in range(first, first + count)])


def sentences(words_a_sentence: int) -> list[str]:
    """Sentences of random words, every second one with a sum; the same in every call."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(3000)]
    made = []
    for number in range(SENTENCES):
        text = " ".join(words[i] for i in rng.integers(0, len(words), words_a_sentence))
        a, b = rng.integers(2, 100, 2)
        made.append(f"{text}: {a} + {b} = {a + b + (number % 20 == 0)}." if number % 2 else text + ".")
    return made


def _texts(rng: np.random.Generator, pool: np.ndarray, count: int, sentences: int, ends: Sequence[str]) -> list[str]:
    drawn = rng.integers(0, len(pool), (count, sentences))
    return [" ".join(pool[row]) + f" So it is {end}." for row, end in zip(drawn, ends, strict=True)]
