"""The neighbourhood of some nodes as a drawing, and the Cypher that gives the same nodes.

Every type of edge that a centre may have is followed once. Of each type and direction the edges with the largest weight
are drawn; where edges have no weight, those with the lowest ids. Edges of which one end may have most of the memory's
are not followed from that end, so that a drawing costs what it shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memstore.errors import InputError
from memstore_rl.inspector.drawing import LABEL_OF, WEIGHTS, Drawing, draw_nodes
from memstore_rl.inspector.source import Source
from memstore_rl.inspector.views.missing import NotThere
from memstore_schema.columns import EDGE_ENDS, EdgeEnd, EdgeType, NodeLabel

CENTRES = 3
"""Centres of a drawing at most."""
EDGES, OTHER_EDGES = 9, 3
"""Edges of a centre that are drawn, of each type and direction: of the types in `MANY`, and of the others."""
MANY = frozenset({EdgeType.GENERATES, EdgeType.LEADS_TO, EdgeType.INFLUENCED_BY})
CENTRE_LABELS = (NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER, NodeLabel.POLICY)
"""Nodes that can be centres."""
NOT_FOLLOWED = frozenset({(NodeLabel.POLICY, EdgeType.WROTE)})
"""Labels of centres, and edges that are not followed from them."""
NO_WEIGHT = "CASE WHEN false THEN 1.0 END"
"""A null with the type of a weight, which both databases accept."""
_ID = re.compile(r"[qtap]-[0-9a-f]{6,64}")


@dataclass(frozen=True)
class Hop:
    """Edges of a type that a centre has, in one direction."""

    edge: EdgeType
    by: EdgeEnd
    """The end at which the centre is."""
    others: tuple[NodeLabel, ...]
    """Labels at the other end."""

    @property
    def most(self) -> int:
        """How many are drawn."""
        return EDGES if self.edge in MANY else OTHER_EDGES


@dataclass(frozen=True)
class NotDrawn:
    """Edges of a centre that are not drawn."""

    centre: str
    edge: EdgeType
    by: EdgeEnd
    count: int


@dataclass(frozen=True)
class Propagation:
    """Centres and their neighbours."""

    centres: tuple[str, ...]
    drawing: Drawing
    not_drawn: tuple[NotDrawn, ...]
    policies: bool
    """Whether a policy is a centre, whose rollouts are not followed."""
    cypher: str
    """The query that gives the same nodes."""
    speaks_cypher: bool
    """Whether the source can run it."""


def propagation(source: Source, centres: Sequence[str]) -> Propagation:
    """The neighbourhood of some nodes.

    Args:
        centres: ids of queries, rollouts, answers or policies.

    Raises:
        NotThere: one does not exist.
        InputError: there are too many, or nodes of other labels.
    """
    names = tuple(dict.fromkeys(centres))
    if len(names) > CENTRES:
        raise InputError(f"a drawing has at most {CENTRES} centres; leave some out of the address")
    labels = {name: _label_of(source, name) for name in names}
    nodes, not_drawn = dict.fromkeys(names), []
    for name, label in labels.items():
        for hop in hops(label):
            edges = _edges(source, name, label, hop)
            nodes |= dict.fromkeys(other for other, _ in edges[: hop.most])
            if len(edges) > hop.most:
                not_drawn.append(NotDrawn(name, hop.edge, hop.by, len(edges) - hop.most))
    return Propagation(
        centres=names,
        drawing=draw_nodes(source, list(nodes)),
        not_drawn=tuple(not_drawn),
        policies=NodeLabel.POLICY in labels.values(),
        cypher=cypher_of(labels),
        speaks_cypher=source.speaks_cypher,
    )


def _label_of(source: Source, name: str) -> NodeLabel:
    label = LABEL_OF.get(name[:1])
    if label is not None and label not in CENTRE_LABELS and name[1:2] == "-":
        raise InputError("only queries, rollouts, answers and policies can be centres; choose one of their ids")
    if label is None or not _ID.fullmatch(name) or not len(source.nodes(label, ["id"], ids=[name])):
        raise NotThere(f"there is no node {name[:100]}; search for a query, and follow its links")
    return label


def hops(label: NodeLabel) -> Iterator[Hop]:
    """The edges that are followed from a centre with this label."""
    for edge, ends in EDGE_ENDS.items():
        if (label, edge) in NOT_FOLLOWED:
            continue
        targets = tuple(target for source, target in ends if source is label)
        sources = tuple(source for source, target in ends if target is label)
        if targets:
            yield Hop(edge, "source", targets)
        if sources:
            yield Hop(edge, "target", sources)


def _edges(source: Source, centre: str, label: NodeLabel, hop: Hop) -> list[tuple[str, float]]:
    """The other ends of a centre's edges with their weights, those first that are drawn."""
    weight, far = WEIGHTS.get(hop.edge), "target_id" if hop.by == "source" else "source_id"
    found: list[tuple[str, float]] = []
    for other in hop.others:
        ends = (label, other) if hop.by == "source" else (other, label)
        table = source.edges_of(hop.edge, *ends, [centre], by=hop.by, columns=[weight] if weight else [])
        weights: list[Any] = table[weight].to_pylist() if weight else [0.0] * len(table)
        found += zip(table[far].to_pylist(), weights, strict=True)
    return sorted(found, key=lambda one: (-abs(one[1]), one[0]))


def cypher_of(labels: Mapping[str, NodeLabel]) -> str:
    """The query that gives the centres and their neighbours, with an edge a row; labels are by id."""
    parts = []  # a column that repeats another one's expression makes LadybugDB repeat it in the whole UNION
    for name, label in labels.items():
        parts.append(
            f"MATCH (n:{label})\nWHERE n.id = '{name}'\n"
            f"RETURN n.id AS source, 'centre' AS edge, '{name}' AS target, {NO_WEIGHT} AS weight"
        )
        parts += [_statement(name, label, hop) for hop in hops(label)]
    return "\nUNION ALL\n".join(parts)


def _statement(centre: str, label: NodeLabel, hop: Hop) -> str:
    near, far = f"(n:{label})", f"(m:{hop.others[0]})" if len(hop.others) == 1 else "(m)"
    if hop.by == "source":
        pattern, ends, sought = f"{near}-[e:{hop.edge}]->{far}", ("n", "m"), "target"
    else:
        pattern, ends, sought = f"{far}-[e:{hop.edge}]->{near}", ("m", "n"), "source"
    column = WEIGHTS.get(hop.edge)
    weight = f"e.{column} * 1.0" if column else NO_WEIGHT
    order = f"abs(weight) DESC, {sought}" if column else sought
    return (
        f"MATCH {pattern}\nWHERE n.id = '{centre}'\n"
        f"RETURN {ends[0]}.id AS source, '{hop.edge}' AS edge, {ends[1]}.id AS target, {weight} AS weight\n"
        f"ORDER BY {order} LIMIT {hop.most}"
    )
