"""Score the rollouts of a memory or of a file with one of the memory's reward models."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import IntVector
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.overlay import overlay
from memstore_gnn.data.splits import labelled_queries
from memstore_gnn.models.checkpoint import load_origin
from memstore_gnn.models.device import device_memory
from memstore_gnn.models.origin import Origin
from memstore_gnn.models.registry import model_folder, model_nodes
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.stored_model import open_model, visible_to
from memstore_gnn.monitoring.drift import Drift
from memstore_gnn.scoring.abstain import ABSTAINED, RISK, SHRUNK, BandRow, Mode, abstain, band_for, band_table
from memstore_gnn.scoring.output_file import check_output
from memstore_gnn.scoring.score import Scores, memory_target, score_memory, score_rollouts
from memstore_gnn.scoring.score_lines import write_scores
from memstore_gnn.scoring.score_table import score_table
from memstore_gnn.verbs.train import train_memory


@dataclass(frozen=True, repr=False)
class ScoreSummary:
    """Result of `score_memory_rollouts` or `score_file`."""

    scored: int
    """Number of scored rollouts."""
    model: str
    """Id of the model."""
    seconds: float
    output: str | None
    """File that the scores were written to."""
    drift: Drift | None
    """Difference between the scored rollouts and the training rollouts; None if the latter were not recorded."""
    band: float | None
    """Half the width of the band around 0.5 in which the model abstained; None if it did not abstain."""
    abstained: int
    """Number of rewards that were withheld or shrunk."""
    alone: int = 0
    """Rollouts of a file without a sibling, although the file has other rollouts of their query."""

    def as_json(self) -> dict[str, Any]:
        """The summary as the JSON that `memstore score` prints."""
        drift = None if self.drift is None else self.drift.as_json()
        return {**asdict(self), "seconds": round(self.seconds, 3), "drift": drift}

    def __repr__(self) -> str:
        abstained = f", {self.abstained:,} abstained (band {self.band:.3f})" if self.band is not None else ""
        drift = "" if self.drift is None else f", drifted={self.drift.drifted}"
        output = "" if self.output is None else f", output={self.output!r}"
        return (
            f"ScoreSummary({self.scored:,} rollouts by {self.model!r}{abstained}{drift}{output}; {self.seconds:.1f} s)"
        )


@dataclass(frozen=True)
class Abstention:
    """When a model abstains, and the reward that it gives instead.

    Attributes:
        mode: withhold the reward, or shrink it to the mean of the group.
        risk: share of the remaining rewards that may be on the wrong side of 0.5, 0..1; determines the band.
        band: half the width of the band around 0.5, 0..0.5; None determines it from `risk`.
    """

    mode: Mode
    risk: float = RISK
    band: float | None = None


def score_memory_rollouts(
    memory: Memory,
    *,
    model: str | None = None,
    output: Path | None = None,
    abstention: Abstention | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score all rollouts of the memory that have no ground truth, and store the scores as SCORED_BY edges.

    Args:
        model: id of one of the memory's models; None uses the model in use.
        output: file for the scores as JSON lines.
        abstention: withhold or shrink uncertain rewards in `output`; SCORED_BY keeps the model's prediction.

    Raises:
        ModelError: the memory has no such model, or the model does not fit the memory or has no band for the risk.
    """
    started, progress = time.perf_counter(), progress or Silent()
    check_output(output, "scores")
    job = _Job.of(memory, model, abstention, device)
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    reward = visible_to(job.model, snapshot)
    progress.stage("score")
    target = memory_target(snapshot, ~np.isfinite(reward))
    with device_memory(f"scoring {int(np.isnan(reward).sum()):,} rollouts"):
        scores = score_memory(job.model, snapshot, reward=reward, target=target)
    memory.record_scores(ScoreBatch(model={"id": job.model.card.id}, scores=score_table(scores)))
    return job.finish(snapshot, target, query_of_thinkings(snapshot), scores, output, started)


def score_file(
    memory: Memory,
    file: str | Path,
    *,
    as_ingested: bool = False,
    model: str | None = None,
    output: Path | None = None,
    abstention: Abstention | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score the rollouts of a file against the labels of the memory, without adding them to the memory.

    Rewards in the file are not read. The siblings of a rollout are the file's rollouts of the same query, policy, run
    and step, so that the scores are those that the reward service gives to these groups.

    Args:
        as_ingested: score the rollouts as they would be scored after an ingest of the file, together with all that the
            memory holds of the same queries. A rollout that the memory holds with a label has this label as its reward.
        model, output, abstention, device, progress: as in `score_memory_rollouts`.

    Raises:
        InputError: the file cannot be read or is the output, or a row is no rollout or contradicts the domain of its
            query.
        ModelError: as in `score_memory_rollouts`.
    """
    started, progress = time.perf_counter(), progress or Silent()
    check_output(output, "scores", [file])
    job = _Job.of(memory, model, abstention, device)
    new = memory.read_rollouts([file], progress=progress)
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    progress.stage("score")
    target = overlay(snapshot, new) if as_ingested else new
    with device_memory(f"scoring {new.thinkings.num_rows:,} rollouts"):
        reward = visible_to(job.model, snapshot)
        scores = score_rollouts(job.model, snapshot, new, as_ingested=as_ingested, reward=reward, target=target)
    groups = groups_of(new)
    if as_ingested:
        return job.finish(new, target, groups.query_of, scores, output, started)
    alone = int(((groups.own.size == 1) & (groups.query.size > 1)).sum())
    return replace(job.finish(new, target, groups.own.cell, scores, output, started), alone=alone)


def bands_of_model(memory: Memory, model: str | None = None) -> tuple[str, list[BandRow]]:
    """List the candidate bands of a model with coverage and error; return its id and the rows.

    Args:
        model: id of one of the memory's models; None uses the model in use.

    Raises:
        ModelError: the memory has no model, no model of this name, or its files cannot be read.
    """
    card = open_model(memory, model, "cpu").card
    return card.id, band_table(card.risks)


class _Job(NamedTuple):
    """A model that scores, its training data, and the band in which it abstains."""

    model: RewardModel
    origin: Origin | None
    mode: Mode | None
    band: float | None

    @classmethod
    def of(cls, memory: Memory, model: str | None, abstention: Abstention | None, device: str | None) -> _Job:
        """Open a model; a memory without models and without labels first gets the shipped prior as its model."""
        if model is None and not model_nodes(memory) and not labelled_queries(memory.snapshot()).any():
            train_memory(memory, device=device)
        chosen = open_model(memory, model, device)
        origin = load_origin(model_folder(memory, chosen.card.id))
        if abstention is None:
            return cls(chosen, origin, None, None)
        band = abstention.band
        if band is None:
            band = band_for(chosen.card.risks, abstention.risk, chosen.card.id)
        return cls(chosen, origin, abstention.mode, band)

    def finish(
        self,
        snapshot: Snapshot,
        target: Snapshot,
        group: IntVector,
        scores: Scores,
        output: Path | None,
        started: float,
    ) -> ScoreSummary:
        """Abstain, write the output file and compare the target with the training data.

        Args:
            snapshot: holds the scored rollouts.
            target: the groups that the model read.
            group: int64 [T], group of each rollout of `snapshot`.
            started: `time.perf_counter()` at the start of the verb.
        """
        abstained = 0
        if self.mode is not None and self.band is not None:
            row = pc.index_in(pa.array(scores.id.tolist(), pa.string()), snapshot.thinkings["id"].combine_chunks())
            scores = abstain(scores, group[row.to_numpy()], self.band, self.mode)
            abstained = int(np.isin(scores.source, (ABSTAINED, SHRUNK)).sum())
        if output is not None:
            write_scores(output, snapshot, scores, self.model.card.id)
        drift = None if self.origin is None else self.origin.reference.drift(target)
        seconds, where = time.perf_counter() - started, str(output) if output else None
        return ScoreSummary(len(scores.id), self.model.card.id, seconds, where, drift, self.band, abstained)
