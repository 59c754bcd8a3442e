"""LadybugDB and the in-memory graph give the same graph and the same errors for random writes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memstore.errors import InputError, LabelConflict
from memstore.graph.ladybug import LadybugGraph
from memstore.graph.protocol import GraphStore
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block, make_labels, make_links, make_scores
from memstore.testing.doubles.graph import MemoryGraph
from memstore_schema.columns import NodeLabel

IDS = st.sampled_from([f"t{i}" for i in range(8)])
REWARDS = st.sampled_from([None, 0.0, 0.1 + 0.2, 1.0])
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
SCORES = st.sampled_from([0.25, 0.5, 1.0])


@st.composite
def blocks(draw: Any) -> tuple[str, Any]:
    """A block of a few rollouts; a rollout's query follows from its id, as it does in a memory."""
    rollouts = [
        Rollout(name, f"q{name[1:]}"[:2], answer, reward, text=text, policy=policy)
        for name in draw(st.lists(IDS, unique=True, max_size=5))
        for answer, reward, text, policy in [
            draw(st.tuples(st.sampled_from([None, "1", "2"]), REWARDS, TEXTS, st.sampled_from("ab")))
        ]
    ]
    golds = {rollout.query: draw(st.sampled_from(["1", "2"])) for rollout in rollouts if draw(st.booleans())}
    return "write_block", (make_block(*rollouts, golds=golds), draw(st.booleans()))


links = st.dictionaries(IDS, st.dictionaries(IDS, SCORES, max_size=3), max_size=4).map(
    lambda neighbours: ("replace_links", (make_links(NodeLabel.THINKING, neighbours),))
)
scores = st.tuples(st.sampled_from(["m1", "m2"]), st.dictionaries(IDS, SCORES, max_size=4)).map(
    lambda given: ("append_scores", (make_scores(given[0], 1, given[1]),))
)
labels = st.tuples(st.dictionaries(IDS, SCORES, max_size=4), st.booleans()).map(
    lambda given: ("set_labels", (make_labels(given[0]), given[1]))
)
checkpoints = st.just(("checkpoint", ()))


def call(graph: GraphStore, name: str, arguments: tuple[Any, ...]) -> object:
    """The result of the call, or the type of its error."""
    options = {"replace": arguments[1]} if len(arguments) == 2 else {}
    try:
        return getattr(graph, name)(*arguments[:1], **options)
    except LabelConflict:
        return "conflict"
    except InputError:
        return "refused"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(blocks(), blocks(), links, scores, labels, checkpoints), max_size=8))
def test_the_same_calls_give_the_same_graph(calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    model = MemoryGraph()
    with TemporaryDirectory() as folder:
        with LadybugGraph.open(Path(folder) / "graph", create=True) as graph:
            for name, arguments in calls:
                assert call(graph, name, arguments) == call(model, name, arguments)
            assert dump(graph) == dump(model)
        with LadybugGraph.open(Path(folder) / "graph", create=False) as again:
            assert dump(again) == dump(model)
