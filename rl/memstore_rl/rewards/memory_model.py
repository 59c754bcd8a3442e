"""A reward model with the memory it reads: predicts probabilities for new groups.

The memory is read as a snapshot loaded at opening. Later writes count after `refresh`.

A group consists of the rollouts that one policy sampled together, and only agreement within the group counts. Other
groups in the call and stored rollouts of the same query have no effect: votes of an earlier policy would hold back a
policy that has improved (figures in docs/rewards.md), and rewards would depend on what had been written so far. The
memory contributes the labels of other queries, never those of the query itself. The model card says which labels the
model may see: those of its label budget, or all. So the probabilities of a group depend only on the group and on these
labels.

Scoring uses one core. Its operations are small; on several cores each would wait for cores that other processes use,
and torch's idle threads would take CPU time from the embedder.
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
from memstore_rl.rewards.vote_drift import VoteDriftMonitor

Embed: TypeAlias = Callable[[Sequence[str]], FloatMatrix]
"""Unit vectors float32 [N, D] of non-blank texts, made by the memory's embedder."""


class Predicted(NamedTuple):
    """Prediction for one group."""

    probability: FloatVector
    """float64 [N], the probability that each rollout is right."""
    answer: IntVector
    """int64 [N], equal for rollouts with the same answer; unique for a rollout without one."""


@dataclass(frozen=True)
class _State:
    """Everything that `refresh` replaces, in one object, so that a call sees a consistent state."""

    snapshot: Snapshot
    context: LabelContext
    domains: dict[str, Domain]
    prior: float
    """Mean of the visible labels; 0.5 without any."""


class MemoryModel:
    """Predicts with a reward model over a memory; see the module's docstring. Thread-safe."""

    def __init__(self, model: RewardModel, snapshot: Snapshot, embed: Embed, origin: Origin | None = None) -> None:
        """Read the labels of a memory snapshot.

        Args:
            origin: description of the training data; with it, `vote_drift` monitors the scored groups.

        Raises:
            ModelError: the model does not fit the snapshot.
        """
        self.model = model
        self.vote_drift = VoteDriftMonitor(origin.reference) if origin is not None else None
        self._embed = embed
        self._memory: Memory | None = None
        self._state = _read_memory(model, snapshot)

    @classmethod
    def of_memory(
        cls, memory: Memory, *, model: str | None = None, device: str | None = None, embed: Embed | None = None
    ) -> MemoryModel:
        """Use a model of an open memory, with the memory's embedder and cache.

        Args:
            memory: the memory, which stays open.
            model: id of the reward model; None: the memory's default.
            device: where the model runs; None: a GPU if there is one.
            embed: embeds texts instead.

        Raises:
            ModelError: the model does not exist or was trained with another embedder.
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
        """Use the folders of a snapshot and a model, for a process that cannot own the memory. Nothing is cached.

        Raises:
            InputError, ModelError: a folder cannot be read, or the two do not fit.
            EmbedderError: the embedder is not the one that the snapshot was made with.
        """
        settings = Settings()
        loaded = load_snapshot(snapshot)
        embedder = embedder or load_embedder(settings.embedder, device=device, long_text=settings.long_text)
        if str(embedder.fingerprint) != loaded.manifest.embedder:
            raise EmbedderError(
                f"the snapshot {snapshot} was made with the embedder {loaded.manifest.embedder}, but this embedder is "
                f"{embedder.fingerprint}; set MEMSTORE_EMBEDDER to the snapshot's embedder"
            )
        return cls(load_model(model, pick_device(device)), loaded, embedder.embed, load_origin(model))

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self._state.snapshot

    @property
    def prior(self) -> float:
        """Mean of the labels that the model may see: the probability of a rollout without any evidence."""
        return self._state.prior

    def refresh(self) -> None:
        """Re-read the memory; a snapshot from a folder stays. Calls in progress keep their state."""
        if self._memory is not None:
            self._state = _read_memory(self.model, self._memory.snapshot())

    def contains(self, query: QueryId) -> bool:
        """Whether the memory holds this query."""
        return query in self._state.domains

    def domain_of(self, query: QueryId) -> Domain | None:
        """The domain of a query in the memory; None if the memory does not hold it."""
        return self._state.domains.get(query)

    def predict(self, groups: Sequence[Sequence[Record]]) -> list[Predicted]:
        """Predict groups, each of one query. Their rewards and gold answers are ignored.

        Raises:
            ModelError: a vector is not finite.
        """
        state = self._state
        identified = [_identified(group) for group in groups]
        results: dict[int, Predicted] = {}
        for batch in batches_of_distinct_queries([group[0].query_id for group in identified]):
            results.update(zip(batch, self._predict_batch(state, [identified[index] for index in batch]), strict=True))
        return [results[index] for index in range(len(groups))]

    def _predict_batch(self, state: _State, groups: list[list[IdentifiedRecord]]) -> list[Predicted]:
        new = self._snapshot_of(state, [item for group in groups for item in group])
        with one_core():
            probability = self.model.predict(new, state.context)
            if self.vote_drift is not None:
                self.vote_drift.observe(new)
        row = {rollout: position for position, rollout in enumerate(new.thinkings["id"].to_pylist())}
        answers = _answers(new)
        rows = [np.array([row[item.id] for item in group]) for group in groups]
        return [Predicted(probability[of_group], answers[of_group]) for of_group in rows]

    def _snapshot_of(self, state: _State, records: list[IdentifiedRecord]) -> Snapshot:
        """Build a snapshot of the rollouts."""
        known: dict[QueryId, KnownQuery] = {}
        for item in records:
            stored, record = state.domains.get(item.query_id), item.record
            known[item.query_id] = KnownQuery(stored or record.domain or infer_domain(record.query, None), None)
        collated = to_columns(records, known, batch={"id": ""}, created_at=dt.datetime.now(dt.UTC))
        vectors = self._embed(list(collated.texts.values()))
        manifest = replace(state.snapshot.manifest, id="")
        return block_snapshot(manifest, collated.block, list(collated.texts), vectors)


def _read_memory(model: RewardModel, snapshot: Snapshot) -> _State:
    reward = visible_to(model, snapshot)
    ids, domains = snapshot.queries["id"].to_pylist(), snapshot.queries["domain"].to_pylist()
    known = reward[np.isfinite(reward)]
    prior = float(known.mean()) if len(known) else 0.5
    return _State(snapshot, model.label_context(snapshot, reward), dict(zip(ids, domains, strict=True)), prior)


def _answers(new: Snapshot) -> IntVector:
    """Return int64 [N], the answer index of each rollout; unique for a rollout without an answer."""
    leads, count = new.edges["leads_to"], new.thinkings.num_rows
    answer: IntVector = np.arange(count, dtype=np.int64) + new.answers.num_rows
    answer[leads.source] = leads.target
    return answer


def _identified(group: Sequence[Record]) -> list[IdentifiedRecord]:
    seen = Occurrences()
    return [assign_ids(record, "", seen) for record in group]
