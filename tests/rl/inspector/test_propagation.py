"""The drawn neighbourhood of nodes, and the Cypher that gives the same nodes."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore_rl.inspector.drawing import EDGES as DRAWN_EDGES
from memstore_rl.inspector.drawing import NODES, Drawing, DrawnEdge, DrawnNode
from memstore_rl.inspector.source import MemorySource, Source
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.propagation import CENTRES, EDGES, Propagation, hops, propagation
from memstore_schema.columns import EDGE_ENDS, EdgeType, NodeLabel

from .conftest import SCRIPT, query_with, serving
from .test_unusual_memories import memory_of


def some(memory: Memory, *labels: NodeLabel) -> list[str]:
    """Ids of nodes with these labels that belong to one query, by label."""
    graph, query = memory.graph, query_with(memory, "1 + 1")
    rollouts = graph.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, [query])["target_id"].to_pylist()
    answers = graph.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, rollouts)["target_id"]
    wrote = graph.edges_of(EdgeType.WROTE, NodeLabel.POLICY, NodeLabel.THINKING, rollouts, by="target")["source_id"]
    of = {
        NodeLabel.QUERY: query,
        NodeLabel.THINKING: rollouts[0],
        NodeLabel.ANSWER: answers[0].as_py(),
        NodeLabel.POLICY: wrote[0].as_py(),
    }
    return [of[label] for label in labels]


CHOICES = [
    (NodeLabel.QUERY,),
    (NodeLabel.THINKING,),
    (NodeLabel.ANSWER,),
    (NodeLabel.POLICY,),
    (NodeLabel.QUERY, NodeLabel.ANSWER, NodeLabel.THINKING),
]


@pytest.mark.parametrize("labels", CHOICES)
def test_the_cypher_gives_the_nodes_of_the_drawing(
    looked_at: Memory, source: Source, labels: tuple[NodeLabel, ...]
) -> None:
    found = propagation(source, some(looked_at, *labels))
    drawn = {node.id for node in found.drawing.nodes}
    rows = list(looked_at.cypher(found.cypher, {}).rows)
    assert {name for row in rows for name in (row[0], row[2])} == drawn
    weights = {(str(edge.edge), edge.source, edge.target): edge.weight for edge in found.drawing.edges}
    given = {(row[1], row[0], row[2]): row[3] for row in rows if row[1] != "centre"}
    assert given == {key: weights[key] for key in given}
    assert found.speaks_cypher is not source.read_only


def test_the_neighbourhood_of_a_rollout(source: Source, looked_at: Memory) -> None:
    [rollout] = some(looked_at, NodeLabel.THINKING)
    found = propagation(source, [rollout])
    kinds = {node.label for node in found.drawing.nodes}
    assert kinds >= {NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER, NodeLabel.POLICY, NodeLabel.REWARD_MODEL}
    influences = {
        edge.weight for edge in found.drawing.edges if edge.edge is EdgeType.INFLUENCED_BY and edge.source == rollout
    }
    assert influences == {1.5, -0.25, 0.5}
    [policy] = [node for node in found.drawing.nodes if node.label is NodeLabel.POLICY]
    assert policy.text.startswith("step ")
    drawn = found.drawing.svg("/inspect", marked=found.centres)
    assert SCRIPT not in drawn
    assert drawn.count("marked") == 1


def test_every_edge_of_the_schema_is_followed_from_one_of_its_ends() -> None:
    centres = (NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER, NodeLabel.POLICY)
    followed = {
        (hop.edge, *((label, other) if hop.by == "source" else (other, label)))
        for label in centres
        for hop in hops(label)
        for other in hop.others
    }
    assert followed == {(edge, *pair) for edge, pairs in EDGE_ENDS.items() for pair in pairs}


def crowded(folder: Path, rollouts: int) -> list[dict[str, object]]:
    return [
        {
            "query": f"Query {at % 2}?",
            "thinking": f"t {at}",
            "answer": "4",
            "policy": "large",
            "step": 1,
            "domain": "math",
        }
        for at in range(rollouts)
    ]


def not_drawn(found: Propagation) -> dict[EdgeType, int]:
    return {left.edge: left.count for left in found.not_drawn}


def test_what_is_not_drawn_is_counted(tmp_path: Path) -> None:
    with memory_of(tmp_path, crowded(tmp_path, 100)) as memory:
        source, graph = MemorySource(memory), memory.graph
        queries, answers, policies = (
            graph.nodes(label, ["id"])["id"].to_pylist()
            for label in (NodeLabel.QUERY, NodeLabel.ANSWER, NodeLabel.POLICY)
        )
        found = propagation(source, [queries[0]])
        assert not_drawn(found)[EdgeType.GENERATES] == 50 - EDGES
        assert {name for row in memory.cypher(found.cypher, {}).rows for name in (row[0], row[2])} == {
            node.id for node in found.drawing.nodes
        }
        both = propagation(source, [*queries, answers[0]])
        assert len(both.drawing.nodes) <= NODES
        assert both.drawing.left_out == 0
        assert len(both.drawing.edges) <= DRAWN_EDGES
        alone = propagation(source, policies)  # its rollouts are never read
        assert alone.policies
        assert {node.id for node in alone.drawing.nodes} == set(policies)
        with serving(source) as address, httpx.Client(base_url=address) as web:
            assert f"{50 - EDGES} more GENERATES" in web.get("/propagation", params={"node": queries[0]}).text
            assert "rollouts of a policy are not drawn" in web.get("/propagation", params={"node": policies[0]}).text


def test_nodes_that_are_not_there(source: Source, looked_at: Memory) -> None:
    for name in ("q-1", "t-00000000", "nonsense", "' OR 1=1 //", "q-0' OR true //", SCRIPT, "💥", "t-shirts"):
        with pytest.raises(NotThere, match="there is no node"):
            propagation(source, [name])
    dataset = looked_at.graph.nodes(NodeLabel.DATASET, ["id"])["id"][0].as_py()
    with pytest.raises(InputError, match="can be centres"):
        propagation(source, [dataset])
    with pytest.raises(InputError, match=f"at most {CENTRES} centres"):
        propagation(source, looked_at.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()[: CENTRES + 1])


def test_the_page_expands_and_leads_to_cypher(web: httpx.Client, looked_at: Memory) -> None:
    query, rollout = some(looked_at, NodeLabel.QUERY, NodeLabel.THINKING)
    page = web.get(f"/query/{query}").text
    assert f"/propagation?node={query}" in page
    assert f"/propagation?node={rollout}" in web.get(f"/rollout/{rollout}").text
    page = web.get("/propagation", params={"node": query}).text
    assert SCRIPT not in page
    added = re.findall(r'<a href="/inspect(/propagation\?node=q-\w+&amp;node=t-\w+)"', page)
    assert added
    larger = web.get(html.unescape(added[0]))
    assert len(re.findall(r'<rect class="node \w+ marked"', larger.text)) == 2
    link = next(one for one in re.findall(r'href="/inspect(/cypher\?[^"]+)"', larger.text) if "UNION" in one)
    result = web.get(html.unescape(link)).text
    assert 'class="graph"' in result
    assert parse_qs(urlsplit(html.unescape(link)).query)["query"][0].count("UNION ALL") > 5
    assert "By its id" not in larger.text
    begin = web.get("/propagation", params={"node": ""}).text
    assert "has a link to its neighbourhood" in begin
    assert "There is no node t-00000000" in web.get("/propagation", params={"node": "t-00000000"}).text


@pytest.mark.parametrize("ends", [("a", "b"), ("q", "a")])
def test_every_edge_is_within_the_drawing(ends: tuple[str, str]) -> None:
    nodes = (DrawnNode(NodeLabel.QUERY, "q", "W" * 60), *(DrawnNode(NodeLabel.THINKING, name, "") for name in "ab"))
    drawn = Drawing(nodes, (DrawnEdge(EdgeType.SIMILAR_TO, *ends, 1.0),), 0).svg("")
    left, _, width, _ = map(float, re.findall(r'viewBox="([^"]+)"', drawn)[0].split())
    (path,) = re.findall(r' d="([^"]+)"', drawn)
    assert max(float(x) for x in re.findall(r"[MC ](\d+) \d+", path)) <= left + width
    assert "W" * 18 + "…" in drawn
