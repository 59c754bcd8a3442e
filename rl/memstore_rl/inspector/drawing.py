"""Nodes and the edges between them, drawn as SVG: a column for each kind of node, links to their pages.

The number of nodes and edges is bounded, so that a drawing stays legible and costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from memstore_rl.inspector.source import Source
from memstore_rl.inspector.texts import one_line
from memstore_schema.columns import EDGE_ENDS, EdgeType, NodeLabel

NODES, EDGES = 100, 400
"""Nodes and edges of a drawing at most."""
ORDER = (
    NodeLabel.DATASET, NodeLabel.QUERY, NodeLabel.RUN, NodeLabel.POLICY, NodeLabel.THINKING, NodeLabel.ANSWER,
    NodeLabel.REWARD_MODEL,
)  # fmt: skip
"""Columns from left to right."""
PAGES = {
    NodeLabel.QUERY: "query",
    NodeLabel.THINKING: "rollout",
    NodeLabel.ANSWER: "answer",
    NodeLabel.POLICY: "policy",
}
_NAMES = {
    NodeLabel.DATASET: "name",
    NodeLabel.RUN: "name",
    NodeLabel.POLICY: "name",
    NodeLabel.REWARD_MODEL: "id",
}
"""Property that names a node; of the others it is the text."""
LABEL_OF = {
    "q": NodeLabel.QUERY, "t": NodeLabel.THINKING, "a": NodeLabel.ANSWER, "r": NodeLabel.RUN, "p": NodeLabel.POLICY,
    "d": NodeLabel.DATASET, "m": NodeLabel.REWARD_MODEL,
}  # fmt: skip
"""Label of a node by the first letter of its id."""
WEIGHTS = {
    EdgeType.INFLUENCED_BY: "weight",
    EdgeType.SIMILAR_TO: "score",
    EdgeType.SCORED_BY: "probability",
    EdgeType.RELIABLE_IN: "reliability",
}
"""Property of an edge that makes it thicker."""
_WIDTH, _HEIGHT, _GAP, _TOP = 150.0, 26.0, 40.0, 30.0
_TEXT = 19
"""Characters in a box."""


@dataclass(frozen=True)
class DrawnNode:
    """A node: its label, id and text."""

    label: NodeLabel
    id: str
    text: str


@dataclass(frozen=True)
class DrawnEdge:
    """An edge between two drawn nodes; a known weight makes it thicker."""

    edge: EdgeType
    source: str
    target: str
    weight: float | None = None


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and how much was left out."""

    nodes: tuple[DrawnNode, ...]
    edges: tuple[DrawnEdge, ...]
    left_out: int
    """Nodes beyond the limit."""

    def svg(
        self, root: str, link: Callable[[DrawnNode], str | None] | None = None, marked: Collection[str] = ()
    ) -> Markup:
        """The drawing.

        Args:
            root: the path of the pages.
            link: address of a node, below `root`; None for a node without. By default it is the node's page.
            marked: ids of the nodes that stand out.
        """
        return _svg(self, lambda node: f"{root}/{at}" if (at := (link or page_of)(node)) else None, marked)


def page_of(node: DrawnNode) -> str | None:
    """Path of a node's page; None if it has none."""
    return f"{PAGES[node.label]}/{node.id}" if node.label in PAGES else None


def draw_nodes(source: Source, ids: Sequence[str]) -> Drawing:
    """The nodes with these ids and all edges between them."""
    wanted: dict[NodeLabel, list[str]] = {}
    for name in dict.fromkeys(ids):
        if name[0] in LABEL_OF:
            wanted.setdefault(LABEL_OF[name[0]], []).append(name)
    nodes = [node for label in ORDER if label in wanted for node in _nodes(source, label, wanted[label])]
    kept = nodes[:NODES]
    of_label: dict[NodeLabel, list[str]] = {}
    for node in kept:
        of_label.setdefault(node.label, []).append(node.id)
    known = {node.id for node in kept}
    edges: list[DrawnEdge] = []
    for edge, ends in EDGE_ENDS.items():
        for start, end in ends:
            if start in of_label and end in of_label:
                edges += _edges(source, edge, start, end, of_label, known)
    return Drawing(tuple(kept), tuple(edges[:EDGES]), len(nodes) - len(kept))


def _nodes(source: Source, label: NodeLabel, ids: Sequence[str]) -> list[DrawnNode]:
    name = _NAMES.get(label, "text")
    columns = ["id", name, "step"] if label is NodeLabel.POLICY else ["id", name]
    rows = source.nodes(label, list(dict.fromkeys(columns)), ids=ids).to_pylist()
    return [DrawnNode(label, row["id"], _text(row[name], row.get("step"))) for row in rows]


def _text(text: str | None, step: int | None) -> str:
    return one_line(text, 60) if step is None else f"step {step} of {one_line(text, 60)}"


_BY_TARGET = frozenset({EdgeType.GENERATES, EdgeType.WROTE, EdgeType.PRODUCED})
"""Edges of which the source may have many: they are read from their target, as the others are from their source."""


def _edges(
    source: Source,
    edge: EdgeType,
    start: NodeLabel,
    end: NodeLabel,
    ids: dict[NodeLabel, list[str]],
    known: set[str],
) -> list[DrawnEdge]:
    """The edges of a type between the drawn nodes of two labels."""
    columns = [WEIGHTS[edge]] if edge in WEIGHTS else []
    if edge in _BY_TARGET:
        found = source.edges_of(edge, start, end, ids[end], by="target", columns=columns)
    else:
        found = source.edges_of(edge, start, end, ids[start], columns=columns)
    return [
        DrawnEdge(edge, row["source_id"], row["target_id"], row[columns[0]] if columns else None)
        for row in found.to_pylist()
        if row["source_id"] in known and row["target_id"] in known
    ]


def _svg(drawing: Drawing, address: Callable[[DrawnNode], str | None], marked: Collection[str]) -> Markup:
    labels = [label for label in ORDER if any(node.label is label for node in drawing.nodes)]
    place: dict[str, tuple[float, float]] = {}
    rows = dict.fromkeys(labels, 0)
    for node in drawing.nodes:
        x = labels.index(node.label) * (_WIDTH + _GAP * 2)
        place[node.id] = (x, _TOP + rows[node.label] * (_HEIGHT + 14))
        rows[node.label] += 1
    width = max(1, len(labels)) * (_WIDTH + _GAP * 2) - _GAP * 2
    last = width - _WIDTH
    if any(place[edge.source][0] == place[edge.target][0] == last for edge in drawing.edges):
        width += _GAP  # these edges bend to the right of the column
    height = _TOP + max(rows.values(), default=1) * (_HEIGHT + 14)
    parts = [_arrow(edge, place) for edge in drawing.edges]
    parts += [f'<text class="head" x="{place_of(labels, label)}" y="16">{label}</text>' for label in labels]
    parts += [_box(node, place[node.id], address(node), node.id in marked) for node in drawing.nodes]
    told = f"{len(drawing.nodes)} nodes and {len(drawing.edges)} edges; the table lists the same nodes"
    return Markup(
        f'<svg class="graph" viewBox="-4 0 {width + 8:g} {height:g}" width="{width + 8:g}" role="group" '
        f'aria-label="{told}">{"".join(parts)}</svg>'
    )


def place_of(labels: Sequence[NodeLabel], label: NodeLabel) -> str:
    """Left edge of a label's column."""
    return f"{list(labels).index(label) * (_WIDTH + _GAP * 2):g}"


def _arrow(edge: DrawnEdge, place: dict[str, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = place[edge.source], place[edge.target]
    left, right = (x1 + _WIDTH, x2) if x2 > x1 else (x1, x2 + _WIDTH) if x2 < x1 else (x1 + _WIDTH, x2 + _WIDTH)
    y1, y2, bend = y1 + _HEIGHT / 2, y2 + _HEIGHT / 2, _GAP if x2 >= x1 else -_GAP
    after = right - bend if x2 != x1 else right + bend
    weight = min(6.0, 1.0 + 3.0 * abs(edge.weight)) if edge.weight is not None else 1.0
    sign = " minus" if edge.weight is not None and edge.weight < 0 else ""
    told = f"{edge.edge}" + ("" if edge.weight is None else f" {edge.weight:+.3f}")
    return (
        f'<path class="edge{sign}" stroke-width="{weight:.1f}" '
        f'd="M{left:g} {y1:g}C{left + bend:g} {y1:g} {after:g} {y2:g} {right:g} {y2:g}"><title>{told}</title></path>'
    )


def _box(node: DrawnNode, at: tuple[float, float], address: str | None, marked: bool) -> str:
    x, y = at
    text = escape(one_line(node.text, _TEXT) or node.id)
    kind = f"node {node.label.lower()}" + (" marked" if marked else "")
    box = (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{_WIDTH:g}" height="{_HEIGHT:g}" rx="5"/>'
        f'<text x="{x + 8:g}" y="{y + 17:g}">{text}</text>'
    )
    if address is None:
        return f"<g><title>{escape(node.text)}</title>{box}</g>"
    name = escape(f"{node.label} {node.id}: {node.text}")
    return f'<a href="{escape(address)}" aria-label="{name}">{box}</a>'
