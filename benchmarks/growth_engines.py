"""The work of a memory on servers, divided between memstore and the engines, for benchmarks/growth_model.py.

Counts of nodes and relationships are those of the synthetic memory of growth.py. Rates are those of docs/measured.md,
docs/neo4j.md and docs/milvus.md, on two cores and at 40,000 to 100,000 rollouts. They are taken as constant, which
favours the index of Milvus: a search of HNSW grows with the logarithm of the vectors. Bytes are those of the engines'
documentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

HOURS_A_MONTH = 730
DIMENSION = 384


class Prices(NamedTuple):
    """Prices in one currency; the defaults are guesses at a cloud's list prices in dollars."""

    core_hour: float = 0.04
    gb_month: float = 0.08
    memory_a_core: float = 8.0
    """GB of memory that are rented with a core."""


@dataclass(frozen=True)
class PerRollout:
    """What one rollout adds."""

    vectors: float = 1.1
    """Its own, and a tenth of its query's."""
    nodes: float = 1.6
    """Rollout, a tenth of a query, half an answer."""
    relationships: float = 10.6
    """5.5 links, 4.1 of structure, a score."""
    properties: float = 24
    """Of those nodes and relationships, by the schema."""
    text_bytes: float = 1_400
    tokens: float = 330
    """Tokens of 1.3 kB."""
    unlabelled: float = 0.8


@dataclass(frozen=True)
class Rates:
    """Work of one core in a second."""

    tokens: float = 10_000
    """MiniLM in bf16: 216 texts of 96 tokens a second on two cores."""
    graph: float = 2_300
    """Rollouts with their links written to Neo4j, server and client: 80,000 in 17.6 s on two cores."""
    index: float = 860
    """Vectors upserted, flushed and indexed by Milvus: 40,000 in 23.2 s on two cores."""
    link: float = 300
    """Vectors linked by Milvus' search: 40,000 in 66 s on two cores."""
    score: float = 1_000
    """Rollouts scored in their memory: 80,000 in 81.5 processor seconds."""


@dataclass(frozen=True)
class Bytes:
    """Sizes by the engines' documentation."""

    node: int = 15
    relationship: int = 34
    property: int = 41
    vector: int = 4 * DIMENSION
    hnsw: int = 4 * 2 * 16
    """Neighbours of a vector in the lowest layer of HNSW, M = 16, 4 bytes each."""


NEO4J_NODES = 34e9
"""Limit of nodes and of relationships, and half that of properties, in the format of the Community Edition."""
MILVUS_LOAD = 0.9
"""Share of the query nodes' memory that loaded data may take."""


class Row(NamedTuple):
    """A part of the work; `hours` are core hours once, memory is resident, both in GB."""

    part: str
    by: str
    hours: float | None
    memory: float = 0.0
    disk: float = 0.0


def rows(n: float, ingest_seconds: float | None) -> list[Row]:
    """The parts of a memory of n rollouts."""
    of, rate, size = PerRollout(), Rates(), Bytes()
    vectors = of.vectors * n
    graph = n * (of.nodes * size.node + of.relationships * size.relationship + of.properties * size.property)
    graph += n * of.text_bytes
    raw, index = vectors * size.vector / 1e9, vectors * (size.vector + size.hnsw) / 1e9

    def hours(work: float, rate: float) -> float:
        return work / rate / 3600

    return [
        Row("read, validate, split, ids", "memstore", None if ingest_seconds is None else ingest_seconds / 3600),
        Row("embed", "memstore's embedder in Ray Data", hours(vectors * of.tokens, rate.tokens), disk=raw),
        Row("write the graph", "Neo4j", hours(n, rate.graph), memory=graph / 1e9, disk=graph / 1e9),
        Row("store and index vectors", "Milvus", hours(vectors, rate.index), index / MILVUS_LOAD, raw + index),
        Row("link", "Milvus' search, memstore's exact scores", hours(vectors, rate.link)),
        Row("score", "memstore in Ray Data", hours(of.unlabelled * n, rate.score)),
    ]


def print_engines(n: int, ingest_seconds: float | None, prices: Prices) -> None:
    """The table of the parts, what the servers need, and the price."""
    found = rows(n, ingest_seconds)
    print(f"\n{n:,} rollouts on servers\n")
    print("| part | done by | core hours | memory, GB | disk, GB |\n|---|---|--:|--:|--:|")
    for row in found:
        hours = "" if row.hours is None else f"{row.hours:,.0f}"
        print(f"| {row.part} | {row.by} | {hours} | {_cell(row.memory)} | {_cell(row.disk)} |")
    total = sum(row.hours or 0.0 for row in found)
    memory, disk = sum(row.memory for row in found), sum(row.disk for row in found)
    cores = math.ceil(memory / prices.memory_a_core)
    print(f"| all | | {total:,.0f} | {memory:,.0f} | {disk:,.0f} |\n")
    of = PerRollout()
    share = max(of.nodes, of.relationships, of.properties / 2) * n / NEO4J_NODES
    print(f"Neo4j: {of.nodes * n:,.0f} nodes, {of.relationships * n:,.0f} relationships,", end=" ")
    print(f"{of.properties * n:,.0f} properties, {share:.0%} of the tightest limit.")
    print(f"Once: {total * prices.core_hour:,.0f}. Servers with all data in memory: {cores:,} cores with", end=" ")
    print(f"{memory:,.0f} GB, {cores * HOURS_A_MONTH * prices.core_hour:,.0f} a month;", end=" ")
    print(f"disk {disk * prices.gb_month:,.0f} a month.")


def _cell(value: float) -> str:
    return f"{value:,.0f}" if value else ""
