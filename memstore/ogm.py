"""Object mapping of a memory on Neo4j, for notebooks: queries, their thinkings, answers and similar queries.

py2neo, which this module builds on (the extra `py2neo`), has reached its end of life. Use `Memory.cypher` or the neo4j
driver for new code; docs/py2neo.md lists what no longer works.

    from memstore.ogm import QueryNode, connect

    with connect("lab") as graph:
        query = DatasetNode.match(graph).where(name="gsm8k").first().queries.get()
        [(thinking.text, thinking.reward) for thinking in query.thinkings]
        next(iter(query.thinkings)).label(1.0)

py2neo only reads: every transaction that it opens is read-only, which the server enforces, and properties cannot be
set. `ThinkingNode.label` calls `Memory.label` with all its checks. Objects come from the memory's namespace only.
`graph.run` is not restricted to the namespace; `graph.memory.cypher` is.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import py2neo
from py2neo.matching import Predicate
from py2neo.ogm import Model, ModelMatch, Property, RelatedFrom, RelatedTo

from memstore.errors import InputError, LocationError
from memstore.locations.location import Location, ServerLocation
from memstore.memory import Memory


class Py2neoGraph(py2neo.Graph):  # type: ignore[misc]
    """A read-only py2neo graph of one memory; `connect` makes it."""

    def __init__(self, memory: Memory, location: ServerLocation) -> None:
        super().__init__(
            location.neo4j_uri,
            auth=(location.neo4j_user, location.neo4j_password.get_secret_value()),
            name=location.neo4j_database,
        )
        self.memory = memory

    @property
    def namespace(self) -> str:
        """The memory's namespace, which all objects come from."""
        return self.memory.namespace

    def auto(self, readonly: bool = True) -> py2neo.Transaction:
        """A read-only transaction, whatever `readonly` is."""
        return super().auto(readonly=True)

    def begin(self, readonly: bool = True) -> py2neo.Transaction:
        """A read-only transaction, whatever `readonly` is."""
        return super().begin(readonly=True)

    def close(self) -> None:
        """Close the memory. py2neo keeps its idle connections until the process ends."""
        self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(location: str | Path | Location | None = None) -> Py2neoGraph:
    """Open a memory on servers with py2neo; `location` as in `Memory.open`.

    Raises:
        LocationError: the location is a folder; py2neo needs a Neo4j server.
    """
    memory = Memory.open(location)
    found = memory.location
    if not isinstance(found, ServerLocation):
        memory.close()
        raise LocationError(f"{found} is an embedded memory, which py2neo cannot open; use Memory.cypher or to_pandas")
    try:
        return Py2neoGraph(memory, found)
    except BaseException:
        memory.close()
        raise


class ReadOnlyProperty(Property):  # type: ignore[misc]
    """A property that cannot be set."""

    def __set__(self, instance: Model, value: Any) -> NoReturn:
        raise InputError(f"{self.key} of {instance!r} is read-only; label a thinking with thinking.label(reward)")


class NodeMatch(ModelMatch):  # type: ignore[misc]
    """Nodes of one label in one namespace, as objects: iterate, `len`, `first`, `limit`, `order_by`.

    py2neo's own `where` numbers its parameters from 1 each time, so a second call changes the conditions of the first,
    and it joins conditions without brackets. Either would include nodes of other namespaces.
    """

    def where(self, *predicates: str, **properties: Any) -> Self:
        """Filter by Cypher conditions on the node `_` and by values of properties; all must hold."""
        more: list[Any] = [f"({predicate})" for predicate in predicates]
        for number, (name, value) in enumerate(properties.items(), len(self._predicates) + len(predicates)):
            more.append(Predicate.cast(value).compile(name, number))
        kept = (*self._predicates, *more)
        return type(self)(self.graph, self._labels, kept, self._order_by, self._skip, self._limit)


class _Node(Model):  # type: ignore[misc]
    """Base of the node classes."""

    __primarykey__ = "id"

    id = ReadOnlyProperty()

    def __hash__(self) -> int:
        return hash(self.id)

    @classmethod
    def match(cls, graph: Py2neoGraph, primary_value: str | None = None) -> NodeMatch:
        """Match the nodes of this label in the graph's namespace, or the one with this id; filter with `where`."""
        kind = type(f"{cls.__name__}Match", (NodeMatch,), {"_object_class": cls})
        found: NodeMatch = kind(graph, {cls.__primarylabel__}).where(namespace=graph.namespace)
        return found if primary_value is None else found.where(id=primary_value)


class QueryNode(_Node):
    """A query and its rollouts."""

    __primarylabel__ = "Query"

    text = ReadOnlyProperty()
    domain = ReadOnlyProperty()
    gold = ReadOnlyProperty()
    thinkings = RelatedTo("ThinkingNode", "GENERATES")
    similar = RelatedTo("QueryNode", "SIMILAR_TO")
    datasets = RelatedTo("DatasetNode", "IN")

    @property
    def answers(self) -> Counter[AnswerNode]:
        """Votes: the answers of the query's rollouts, with the number of rollouts that gave each."""
        return Counter(answer for thinking in self.thinkings for answer in thinking.answers)


class DatasetNode(_Node):
    """A dataset, and the queries that have a name in it."""

    __primarylabel__ = "Dataset"

    name = ReadOnlyProperty()
    queries = RelatedFrom("QueryNode", "IN")


class ThinkingNode(_Node):
    """A rollout of a query."""

    __primarylabel__ = "Thinking"

    text = ReadOnlyProperty()
    dataset = ReadOnlyProperty()
    query_key = ReadOnlyProperty()
    policy = ReadOnlyProperty()
    run = ReadOnlyProperty()
    step = ReadOnlyProperty()
    sample_index = ReadOnlyProperty()
    mean_logprob = ReadOnlyProperty()
    finish_reason = ReadOnlyProperty()
    reward = ReadOnlyProperty()
    """Ground truth in 0..1, or None. `predictions` has the predicted rewards."""
    reward_source = ReadOnlyProperty()
    queries = RelatedFrom("QueryNode", "GENERATES")
    answers = RelatedTo("AnswerNode", "LEADS_TO")
    similar = RelatedTo("ThinkingNode", "SIMILAR_TO")
    models = RelatedTo("RewardModelNode", "SCORED_BY")

    @property
    def predictions(self) -> dict[str, float]:
        """Predicted probability by the id of the reward model."""
        return {model.id: float(self.models.get(model, "probability")) for model in self.models}

    def label(self, reward: float, *, replace: bool = False) -> bool:
        """Set the ground truth of this rollout with `Memory.label`; return whether it changed.

        Raises:
            LabelConflict: the rollout has another ground truth and `replace` is False.
            InputError: a reward outside 0..1.
        """
        graph: Py2neoGraph = self.__node__.graph
        changed = graph.memory.label({self.id: reward}, replace=replace)
        graph.pull(self)
        return bool(changed)


class AnswerNode(_Node):
    """An answer that rollouts of one query share."""

    __primarylabel__ = "Answer"

    text = ReadOnlyProperty()
    value = ReadOnlyProperty()
    verdict = ReadOnlyProperty()
    """Whether the answer is right, 0..1, as the labels of its thinkings say, or None."""
    verdict_source = ReadOnlyProperty()
    thinkings = RelatedFrom("ThinkingNode", "LEADS_TO")


class RewardModelNode(_Node):
    """A reward model that has scored rollouts."""

    __primarylabel__ = "RewardModel"

    version = ReadOnlyProperty()
    snapshot = ReadOnlyProperty()
    metrics = ReadOnlyProperty()
