"""A reward model and the memory it reads: probabilities for groups that are in no memory yet.

Read-only: the memory is a snapshot, taken when this was opened. What was written to the memory since counts after
`refresh`.

A group is what one policy made together, and only its own rollouts are siblings, whose agreement counts: neither
another group of the call nor what the memory holds of the same query. Votes of an earlier policy hold back one that
has got better than it was (docs/rewards.md has the figures), and would make a reward depend on what had been written
by then. What the memory adds are labels: those of other queries, never the query's own. Which of them the model sees
is on its card: those of its label budget, or all. So a group's probabilities are a function of the group and of these
labels.

Scoring keeps to one core. Its operations are small: shared among cores, each would wait at its end for a core that
another process has taken, and torch's idle threads would take the cores from the embedder.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from memstore.embedding.cached import embed_cached
from memstore.embedding.minilm import load_embedder
from memstore.embedding.protocol import Embedder
from memstore.errors import EmbedderError
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.records.columns import IdentifiedRecord, KnownQuery, Occurrences, assign_ids, to_columns
from memstore.records.record import Record
from memstore.snapshots.files import load_snapshot
from memstore.snapshots.from_rollouts import block_snapshot
from memstore.snapshots.snapshot import Snapshot
from memstore.text import infer_domain
from memstore.types import Domain, FloatMatrix, FloatVector, IntVector, QueryId
from memstore_gnn.models.checkpoint import load_model, load_origin
from memstore_gnn.models.device import one_core, pick_device
from memstore_gnn.models.origin import Origin
from memstore_gnn.models.registry import model_folder
from memstore_gnn.models.reward_model import LabelContext, RewardModel
from memstore_gnn.models.stored_model import open_model, visible_to
from memstore_gnn.scoring.score import batches_of_distinct_queries
from memstore_rl.rewards.vote_drift import VoteDrift

Embed: TypeAlias = Callable[[Sequence[str]], FloatMatrix]
"""Unit vectors float32 [N, D] of non-blank texts, made by the memory's embedder."""


class Predicted(NamedTuple):
    """What the model says of one group."""

    probability: FloatVector
    """float64 [N], that each rollout is right."""
    answer: IntVector
    """int64 [N], equal for rollouts that reached the same answer; one without an answer is alone."""


@dataclass(frozen=True)
class _State:
    """All that changes with `refresh`, so that a call sees the old or the new whole."""

    snapshot: Snapshot
    context: LabelContext
    domains: dict[str, Domain]


class MemoryModel:
    """See the module's docstring. May be called from several threads at once."""

    def __init__(self, model: RewardModel, snapshot: Snapshot, embed: Embed, origin: Origin | None = None) -> None:
        """Read the labels of a memory.

        Args:
            origin: what the model was trained on; with it, `watch` looks at what is scored.

        Raises:
            ModelError: the model does not fit the snapshot.
        """
        self.model = model
        self.vote_drift = VoteDrift(origin.reference) if origin is not None else None
        self._embed = embed
        self._memory: Memory | None = None
        self._state = _recall(model, snapshot)

    @classmethod
    def of_memory(
        cls, memory: Memory, *, model: str | None = None, device: str | None = None, embed: Embed | None = None
    ) -> MemoryModel:
        """A model of an open memory, the newest if none is named; vectors come from its embedder and cache.

        Args:
            embed: makes the vectors instead.

        Raises:
            ModelError: no such model, or one of another embedder.
        """
        chosen = open_model(memory, model, device)
        made = cls(
            chosen,
            memory.snapshot(),
            embed or partial(embed_cached, memory.embedder, memory.cache),
            load_origin(model_folder(memory, chosen.card.id)),
        )
        made._memory = memory
        return made

    @classmethod
    def of_files(
        cls, snapshot: Path, model: Path, *, device: str | None = None, embedder: Embedder | None = None
    ) -> MemoryModel:
        """A snapshot's folder and a model's: what a worker uses that cannot own the memory. Nothing is cached.

        Raises:
            InputError, ModelError: one of them cannot be read, or they do not fit.
            EmbedderError: the embedder is not the one that the snapshot was made with.
        """
        settings = Settings()
        taken = load_snapshot(snapshot)
        embedder = embedder or load_embedder(settings.embedder, device=device, long_text=settings.long_text)
        if str(embedder.fingerprint) != taken.manifest.embedder:
            raise EmbedderError(
                f"the snapshot {snapshot} was made with the embedder {taken.manifest.embedder} and this one is "
                f"{embedder.fingerprint}; name the snapshot's own with MEMSTORE_EMBEDDER"
            )
        return cls(load_model(model, pick_device(device)), taken, embedder.embed, load_origin(model))

    @property
    def snapshot(self) -> Snapshot:
        """The memory as this reads it."""
        return self._state.snapshot

    def refresh(self) -> None:
        """Read the memory anew; a snapshot from a folder stays. Calls that are under way are not disturbed."""
        if self._memory is not None:
            self._state = _recall(self.model, self._memory.snapshot())

    def contains(self, query: QueryId) -> bool:
        """Does the memory hold this query?"""
        return query in self._state.domains

    def domain_of(self, query: QueryId) -> Domain | None:
        """The domain that the memory has for a query; None where it does not hold it."""
        return self._state.domains.get(query)

    def predict(self, groups: Sequence[Sequence[Record]]) -> list[Predicted]:
        """Probabilities of groups, each of one query; their rewards and golds are not looked at.

        Raises:
            ModelError: a vector that is not finite.
        """
        state = self._state
        placed = [_placed(group) for group in groups]
        results: dict[int, Predicted] = {}
        for batch in batches_of_distinct_queries([group[0].query_id for group in placed]):
            results.update(zip(batch, self._predict_batch(state, [placed[index] for index in batch]), strict=True))
        return [results[index] for index in range(len(groups))]

    def _predict_batch(self, state: _State, groups: list[list[IdentifiedRecord]]) -> list[Predicted]:
        new = self._read(state, [item for group in groups for item in group])
        with one_core():
            probability = self.model.predict(new, state.context)
            if self.vote_drift is not None:
                self.vote_drift.see(new)
        row = {rollout: position for position, rollout in enumerate(new.thinkings["id"].to_pylist())}
        answers = _answers(new)
        rows = [np.array([row[item.id] for item in group]) for group in groups]
        return [Predicted(probability[of_group], answers[of_group]) for of_group in rows]

    def _read(self, state: _State, placed: list[IdentifiedRecord]) -> Snapshot:
        """The rollouts as a snapshot of their own."""
        known: dict[QueryId, KnownQuery] = {}
        for item in placed:
            stored, record = state.domains.get(item.query_id), item.record
            known[item.query_id] = KnownQuery(stored or record.domain or infer_domain(record.query, None), None)
        collated = to_columns(placed, known, batch={"id": ""}, created_at=dt.datetime.now(dt.UTC))
        vectors = self._embed(list(collated.texts.values()))
        manifest = replace(state.snapshot.manifest, id="")
        return block_snapshot(manifest, collated.block, list(collated.texts), vectors)


def _recall(model: RewardModel, snapshot: Snapshot) -> _State:
    reward = visible_to(model, snapshot)
    ids, domains = snapshot.queries["id"].to_pylist(), snapshot.queries["domain"].to_pylist()
    return _State(snapshot, model.label_context(snapshot, reward), dict(zip(ids, domains, strict=True)))


def _answers(new: Snapshot) -> IntVector:
    """int64 [N]: the answer of each rollout; one without an answer has a number of its own."""
    leads, count = new.edges["leads_to"], new.thinkings.num_rows
    answer: IntVector = np.arange(count, dtype=np.int64) + new.answers.num_rows
    answer[leads.source] = leads.target
    return answer


def _placed(group: Sequence[Record]) -> list[IdentifiedRecord]:
    seen = Occurrences()
    return [assign_ids(record, "", seen) for record in group]
