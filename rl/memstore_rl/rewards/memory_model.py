"""A reward model with the memory it reads: predicts probabilities for new groups.

The memory is read at opening: its outline, and texts and vectors of the labelled queries only, so that a service over a
large memory stays small. Later writes count after `refresh`, and `taking_up` changes to another model. Both replace the
model and what was read of the memory together, so that a batch is scored by one model with one state of the memory.

A group consists of the rollouts that one policy sampled together. Other groups in the call have no effect. Stored
rollouts of the same query count by the reliability of their policies (`memstore_gnn.scoring.other_policies`), so that a
worse policy does not hold back a better one (figures in docs/rewards.md). The memory contributes labels of other
queries to a prediction, never those of the query itself. The model card says which labels the model may see: those of
its label budget, or all. So the probabilities of a group depend only on the group and on the memory as last read.

`known` has the verdicts that the memory holds on the answers themselves, of labels that the model may see; the caller
uses them in place of a prediction.

Scoring uses one core. Its operations are small; on several cores each would wait for cores that other processes use,
and torch's idle threads would take CPU time from the embedder.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from memstore.embedding.cached import embed_cached
from memstore.embedding.minilm import load_embedder
from memstore.embedding.protocol import Embedder
from memstore.errors import EmbedderError, InputError
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.records.columns import IdentifiedRecord, KnownQuery, to_columns
from memstore.snapshots.files import load_snapshot
from memstore.snapshots.from_rollouts import block_snapshot
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.snapshots.take import Contents, take_outline, with_contents
from memstore.types import FloatMatrix, IntVector, QueryId
from memstore_gnn.data.groups import batches_of_distinct_queries
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.features.assemble import group_features
from memstore_gnn.features.program_votes import run_programs
from memstore_gnn.models.checkpoint import load_model, load_origin
from memstore_gnn.models.device import device_memory, one_core, pick_device
from memstore_gnn.models.inputs import labelled_contents
from memstore_gnn.models.origin import Origin
from memstore_gnn.models.registry import model_folder
from memstore_gnn.models.reward_model import LabelContext, RewardModel
from memstore_gnn.models.stored_model import seen_by
from memstore_gnn.scoring.declined import mean_label
from memstore_gnn.scoring.other_policies import StoredVotes, stored_votes
from memstore_gnn.scoring.score import predict_groups
from memstore_rl.rewards.known import KnownQueries
from memstore_rl.rewards.shaping import Predicted
from memstore_rl.rewards.vote_drift import VoteDriftMonitor

logger = logging.getLogger(__name__)

Embed: TypeAlias = Callable[[Sequence[str]], FloatMatrix]
"""Unit vectors float32 [N, D] of non-blank texts, made by the memory's embedder."""


@dataclass(frozen=True)
class _State:
    """Everything that `refresh` and `taking_up` replace, in one object, so that a call sees a consistent state."""

    model: RewardModel
    vote_drift: VoteDriftMonitor | None
    manifest: Manifest
    context: LabelContext
    known: KnownQueries
    prior: float
    """Mean of the visible labels; 0.5 without any."""
    stored: StoredVotes
    """The memory's rollouts as votes."""

    @property
    def width(self) -> int:
        """Number of dimensions of a vector."""
        return int(self.context.part.snapshot.query_x.shape[1])


class MemoryModel:
    """Predicts with a reward model over a memory; see the module's docstring. Thread-safe."""

    def __init__(
        self,
        model: RewardModel,
        snapshot: Snapshot,
        embed: Embed,
        origin: Origin | None = None,
        contents: Contents | None = None,
    ) -> None:
        """Read the labels of a memory snapshot.

        Args:
            origin: description of the training data; with it, `vote_drift` monitors the scored groups.
            contents: None if the snapshot has texts and vectors; needed if it is an outline.

        Raises:
            ModelError: the model does not fit the snapshot.
        """
        self._embed = embed
        self._contents = contents
        self._memory: Memory | None = None
        self._device: str | None = None
        self._replacing = threading.Lock()
        self._state = _read_memory(model, _monitor(origin), snapshot, contents)

    @classmethod
    def of_memory(
        cls,
        memory: Memory,
        *,
        model: str | None = None,
        folder: Path | None = None,
        device: str | None = None,
        embed: Embed | None = None,
    ) -> MemoryModel:
        """Use a model of an open memory, with the memory's embedder and cache.

        Args:
            memory: the memory, which stays open.
            model: id of the reward model; None: the memory's default.
            folder: the folder of the reward model, in place of its id.
            device: where the model runs; None: a GPU if there is one.
            embed: embeds texts instead.

        Raises:
            ModelError: the model does not exist or was trained with another embedder.
        """
        folder = folder or model_folder(memory, model)
        made = cls(
            _load(folder, device),
            take_outline(memory.stores),
            embed or partial(embed_cached, memory.embedder, memory.cache),
            load_origin(folder),
            partial(with_contents, memory.stores),
        )
        made._memory, made._device = memory, device
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
    def model(self) -> RewardModel:
        """The reward model."""
        return self._state.model

    @property
    def vote_drift(self) -> VoteDriftMonitor | None:
        """Monitor of the scored groups; None if the model's training data were not recorded."""
        return self._state.vote_drift

    @property
    def prior(self) -> float:
        """Mean of the labels that the model may see: the probability of a rollout without any evidence."""
        return self._state.prior

    @property
    def known(self) -> KnownQueries:
        """The queries of the memory and the verdicts that the model may see, as last read."""
        return self._state.known

    def refresh(self) -> None:
        """Re-read the memory; a snapshot from a folder stays. Calls in progress keep their state."""
        if self._memory is not None:
            with self._replacing:
                outline, state = take_outline(self._memory.stores), self._state
                self._state = _read_memory(state.model, state.vote_drift, outline, self._contents)

    @contextmanager
    def taking_up(self, folder: Path) -> Iterator[None]:
        """Read another model and the memory; change to them after the context, unless it raises.

        Calls in progress keep their state.

        Args:
            folder: of the model.

        Raises:
            ModelError: the model cannot be read or does not fit the memory; the present one stays.
            InputError: this model reads a folder and not a memory.
        """
        if self._memory is None:
            raise InputError("this model was opened from a folder; open a memory to change its model")
        with self._replacing:
            monitor = _monitor(load_origin(folder))
            if monitor is not None and self.vote_drift is not None:
                monitor.on_window = self.vote_drift.on_window
            outline = take_outline(self._memory.stores)
            state = _read_memory(_load(folder, self._device), monitor, outline, self._contents)
            yield
            self._state = state

    def predict(self, groups: Sequence[Sequence[IdentifiedRecord]], *, monitored: bool = True) -> list[Predicted]:
        """Predict groups, each of one query. Their rewards and gold answers are ignored.

        Args:
            monitored: whether `vote_drift` observes the groups.

        Raises:
            ModelError: a vector is not finite.
        """
        state = self._state
        results: dict[int, Predicted] = {}
        for batch in batches_of_distinct_queries([group[0].query_id for group in groups]):
            of_batch = [groups[index] for index in batch]
            results.update(zip(batch, self._predict_batch(state, of_batch, monitored), strict=True))
        return [results[index] for index in range(len(groups))]

    def run_programs(self, groups: Sequence[Sequence[IdentifiedRecord]]) -> None:
        """Run the programs of groups, so that `predict` finds their outcomes in the cache.

        It takes long for groups of expensive programs, and may run in several threads at a time.

        Raises:
            ModelError: the interpreter of programs does not start.
        """
        state = self._state
        for batch in batches_of_distinct_queries([group[0].query_id for group in groups]):
            records = [item for index in batch for item in groups[index]]
            run_programs(_snapshot_of(state, records, lambda texts: np.zeros((len(texts), state.width), np.float32)))

    def _predict_batch(
        self, state: _State, groups: Sequence[Sequence[IdentifiedRecord]], monitored: bool
    ) -> list[Predicted]:
        new = _snapshot_of(state, [item for group in groups for item in group], self._embed)
        with one_core():
            probability = predict_groups(state.model, state.context, new, state.stored)
            if monitored and state.vote_drift is not None:
                state.vote_drift.observe(new)
        row = {rollout: position for position, rollout in enumerate(new.thinkings["id"].to_pylist())}
        answers, alike = _answers(new), group_features(new).groups
        by_votes, vote = state.model.vote_model.probability(alike), alike.answer.cell
        rows, model = [np.array([row[item.id] for item in group]) for group in groups], state.model.card.id
        return [Predicted(probability[own], answers[own], by_votes[own], vote[own], model) for own in rows]


def _snapshot_of(state: _State, records: list[IdentifiedRecord], embed: Embed) -> Snapshot:
    """Build a snapshot of the rollouts."""
    known: dict[QueryId, KnownQuery] = {}
    for item in records:
        known[item.query_id] = state.known.query_of(item, known.get(item.query_id))
    collated = to_columns(records, known, batch={"id": ""}, created_at=dt.datetime.now(dt.UTC))
    vectors = embed(list(collated.texts.values()))
    manifest = replace(state.manifest, id="")
    return block_snapshot(manifest, collated.block, list(collated.texts), vectors)


def _load(folder: Path, device: str | None) -> RewardModel:
    with device_memory("loading a model"):
        return load_model(folder, pick_device(device))


def _monitor(origin: Origin | None) -> VoteDriftMonitor | None:
    return None if origin is None else VoteDriftMonitor(origin.reference)


def _read_memory(
    model: RewardModel, vote_drift: VoteDriftMonitor | None, snapshot: Snapshot, contents: Contents | None
) -> _State:
    seen = seen_by(model, snapshot)
    verdicts = verdicts_of(snapshot, seen)
    if warning := verdicts.warning():
        logger.warning("%s", warning)
    votes = stored_votes(snapshot, verdicts)
    context = model.label_context(*labelled_contents(snapshot, seen.reward, contents))
    known = KnownQueries.of_snapshot(snapshot, verdicts)
    return _State(model, vote_drift, snapshot.manifest, context, known, mean_label(seen.reward), votes)


def _answers(new: Snapshot) -> IntVector:
    """Return int64 [N], the answer index of each rollout; unique for a rollout without an answer."""
    leads, count = new.edges["leads_to"], new.thinkings.num_rows
    answer: IntVector = np.arange(count, dtype=np.int64) + new.answers.num_rows
    answer[leads.source] = leads.target
    return answer
