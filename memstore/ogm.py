"""A memory on Neo4j as objects, for notebooks: `Query.match(graph)`, its thinkings, answers and similar queries.

    from memstore.ogm import Query, connect

    with connect("lab") as graph:
        query = Query.match(graph).where(dataset="gsm8k").first()
        [(thinking.text, thinking.reward) for thinking in query.thinkings]
        next(iter(query.thinkings)).label(1.0)

The mapping is py2neo's (the extra `py2neo`), which is at its end of life; docs/py2neo.md says what that means.

py2neo only reads here: every transaction that it opens is read-only, which the server sees to, and properties cannot be
set. A person's label goes through `Memory.label`, with all its checks. Objects come from the memory's namespace alone;
Cypher of one's own does not pass through the namespace here: use `Memory.cypher` for that.
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


class MemoryGraph(py2neo.Graph):  # type: ignore[misc]
    """A py2neo graph that reads one memory and knows it; made by `connect`."""

    def __init__(self, memory: Memory, location: ServerLocation) -> None:
        super().__init__(
            location.neo4j_uri,
            auth=(location.neo4j_user, location.neo4j_password.get_secret_value()),
            name=location.neo4j_database,
        )
        self.memory = memory

    @property
    def namespace(self) -> str:
        """The namespace that objects come from."""
        return self.memory.namespace

    def auto(self, readonly: bool = True) -> py2neo.Transaction:
        """A transaction that reads, whatever is asked for."""
        return super().auto(readonly=True)

    def begin(self, readonly: bool = True) -> py2neo.Transaction:
        """A transaction that reads, whatever is asked for."""
        return super().begin(readonly=True)

    def close(self) -> None:
        """Close the memory; py2neo keeps its idle connections until the process ends."""
        self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(location: str | Path | Location | None = None) -> MemoryGraph:
    """Open a memory on servers for py2neo; `location` as `Memory.open` takes it.

    Raises:
        LocationError: it is a folder: an embedded memory speaks no Bolt.
    """
    memory = Memory.open(location)
    found = memory.location
    if not isinstance(found, ServerLocation):
        memory.close()
        raise LocationError(f"{found} is an embedded memory, which py2neo cannot reach; use Memory.cypher or to_pandas")
    try:
        return MemoryGraph(memory, found)
    except BaseException:
        memory.close()
        raise


class Fact(Property):  # type: ignore[misc]
    """A property as the memory has it."""

    def __set__(self, instance: Model, value: Any) -> NoReturn:
        raise InputError(
            f"{self.key} of {instance!r} is not written from here; label a thinking with thinking.label(reward)"
        )


class Match(ModelMatch):  # type: ignore[misc]
    """Nodes of one label in one namespace, as objects: iterate, `len`, `first`, `limit`, `order_by`.

    py2neo's own `where` numbers its parameters from 1 each time, so that a second one changes what the first asked
    for, and joins conditions without brackets: either would let other namespaces in.
    """

    def where(self, *predicates: str, **properties: Any) -> Self:
        """Only those for which all of this holds: Cypher conditions on `_`, and values of properties."""
        more: list[Any] = [f"({predicate})" for predicate in predicates]
        for place, (name, value) in enumerate(properties.items(), len(self._predicates) + len(predicates)):
            more.append(Predicate.cast(value).compile(name, place))
        kept = (*self._predicates, *more)
        return type(self)(self.graph, self._labels, kept, self._order_by, self._skip, self._limit)


class _Node(Model):  # type: ignore[misc]
    """What all nodes of a memory have."""

    __primarykey__ = "id"

    id = Fact()

    def __hash__(self) -> int:
        return hash(self.id)

    @classmethod
    def match(cls, graph: MemoryGraph, primary_value: str | None = None) -> Match:
        """Nodes of this label in the graph's namespace, or the one with this id; refine it with `where`."""
        kind = type(f"{cls.__name__}Match", (Match,), {"_object_class": cls})
        found: Match = kind(graph, {cls.__primarylabel__}).where(namespace=graph.namespace)
        return found if primary_value is None else found.where(id=primary_value)


class Query(_Node):
    """A task and what was tried."""

    key = Fact()
    text = Fact()
    dataset = Fact()
    domain = Fact()
    gold = Fact()
    thinkings = RelatedTo("Thinking", "GENERATES")
    similar = RelatedTo("Query", "SIMILAR_TO")

    @property
    def answers(self) -> Counter[Answer]:
        """The answers that its rollouts reach, with the number of rollouts that reach each."""
        return Counter(answer for thinking in self.thinkings for answer in thinking.answers)


class Thinking(_Node):
    """A rollout: one attempt at a query."""

    text = Fact()
    policy = Fact()
    run = Fact()
    step = Fact()
    sample_index = Fact()
    mean_logprob = Fact()
    finish_reason = Fact()
    reward = Fact()
    """The ground truth, 0..1; None where it is not known. A prediction is in `predictions`."""
    reward_source = Fact()
    queries = RelatedFrom("Query", "GENERATES")
    answers = RelatedTo("Answer", "LEADS_TO")
    similar = RelatedTo("Thinking", "SIMILAR_TO")
    models = RelatedTo("RewardModel", "SCORED_BY")

    @property
    def predictions(self) -> dict[str, float]:
        """The probability that each reward model gave it, by the model's id."""
        return {model.id: float(self.models.get(model, "probability")) for model in self.models}

    def label(self, reward: float, *, replace: bool = False) -> bool:
        """Give this rollout a person's ground truth through `Memory.label`; return whether that changed it.

        Raises:
            LabelConflict: it is known to be otherwise and `replace` is False.
            InputError: a reward outside 0..1.
        """
        graph: MemoryGraph = self.__node__.graph
        changed = graph.memory.label({self.id: reward}, replace=replace)
        graph.pull(self)
        return bool(changed)


class Answer(_Node):
    """What rollouts of one query agree on."""

    text = Fact()
    value = Fact()
    thinkings = RelatedFrom("Thinking", "LEADS_TO")


class RewardModel(_Node):
    """A model that has scored rollouts."""

    version = Fact()
    snapshot = Fact()
    metrics = Fact()
