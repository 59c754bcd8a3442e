"""Find the queries that a filter selects in a graph without Cypher."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import GraphReader
from memstore.graph.query_filter import QueryFilter
from memstore.types import BoolVector, IntVector
from memstore_schema.columns import EdgeType, NodeLabel


def find_in(graph: GraphReader, wanted: QueryFilter, after: str, limit: int) -> list[str]:
    """The ids of the first queries after an id, found in whole columns."""
    queries = graph.nodes(NodeLabel.QUERY, ["id", "text", "domain"])
    keep = _mask(pc.greater(queries["id"], after))
    if wanted.search and wanted.where == "text":
        keep &= _mask(pc.match_substring(queries["text"], wanted.search, ignore_case=True))
    elif wanted.search and wanted.where == "key":
        edges = graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, ["key"])
        keep &= _has(edges.source[_mask(pc.starts_with(edges.properties["key"], wanted.search))], len(queries))
    elif wanted.search:
        keep &= _has(_queries_of(graph, _rollouts_with(graph, wanted.search)), len(queries))
    if wanted.dataset:
        names = graph.nodes(NodeLabel.DATASET, ["name"])["name"]
        named = graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, [])
        keep &= _has(named.source[_mask(pc.equal(names, wanted.dataset))[named.target]], len(queries))
    if wanted.domain:
        keep &= _mask(pc.equal(queries["domain"], wanted.domain))
    if wanted.labels != "any":
        known = _mask(pc.is_valid(graph.nodes(NodeLabel.THINKING, ["reward"])["reward"]))
        labelled = _has(_queries_of(graph, known), len(queries))
        keep &= labelled if wanted.labels == "some" else ~labelled
    return [str(name) for name in queries["id"].take(pa.array(np.flatnonzero(keep)[:limit])).to_pylist()]


def _rollouts_with(graph: GraphReader, answer: str) -> BoolVector:
    """Rollouts that give an answer, bool [T]."""
    answers = graph.nodes(NodeLabel.ANSWER, ["text", "value"])
    same = np.logical_or(*(_mask(pc.equal(answers[name], answer)) for name in ("text", "value")))
    leads = graph.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
    return _has(leads.source[same[leads.target]], len(graph.nodes(NodeLabel.THINKING, ["id"])))


def _queries_of(graph: GraphReader, rollouts: BoolVector) -> IntVector:
    """Queries of some rollouts (bool [T])."""
    generates = graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, [])
    return np.asarray(generates.source[rollouts[generates.target]], np.int64)


def _has(members: IntVector, count: int) -> BoolVector:
    """bool [count], true for the members."""
    found = np.zeros(count, np.bool_)
    found[members] = True
    return found


def _mask(values: pa.ChunkedArray) -> BoolVector:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), np.bool_)
