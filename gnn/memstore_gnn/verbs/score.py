"""Score the rollouts of a memory or of a file with one of the memory's reward models."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import ReadOnlyError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.records.record import RecordDefaults
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import Contents
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.drawn import draw_queries
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.overlay import ingested
from memstore_gnn.data.read_memory import read_memory
from memstore_gnn.data.verdicts import Verdicts, verdicts_of
from memstore_gnn.data.visibility import Visible
from memstore_gnn.models.checkpoint import load_origin
from memstore_gnn.models.device import device_memory
from memstore_gnn.models.origin import Origin, is_redrawn
from memstore_gnn.models.registry import model_folder, model_nodes
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.stored_model import open_model, seen_by
from memstore_gnn.monitoring.drift import Drift
from memstore_gnn.scoring.abstain import ABSTAINED, RISK, SHRUNK, BandRow, Mode, abstain, band_for, band_table
from memstore_gnn.scoring.mixed_policies import Mixed, mixed_in_file, mixed_in_memory, warning_of
from memstore_gnn.scoring.other_policies import stored_votes
from memstore_gnn.scoring.output_file import check_output
from memstore_gnn.scoring.reliability import estimate_reliabilities, reliability_edges
from memstore_gnn.scoring.remembered import Judge
from memstore_gnn.scoring.score import REMEMBERED, Scores, memory_groups, memory_target, score_memory, score_rollouts
from memstore_gnn.scoring.score_lines import write_scores
from memstore_gnn.scoring.score_table import score_table
from memstore_gnn.verbs.train import train_memory
from memstore_schema.columns import NodeLabel

COMPARED = 50_000
"""Rollouts of a large memory that are compared with the training data, about."""


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
    """Rollouts of a file that are alone in their group, although the file has other rollouts of their query."""
    remembered: int = 0
    """Number of rollouts whose reward is a remembered verdict on their answer."""
    contradictions: str | None = None
    """A sentence about answers whose labels in the memory contradict each other; None without any."""
    warnings: list[str] = field(default_factory=list)
    """Sentences about a policy whose rollouts another seems to have written, and about a label budget that shows other
    labels than those that the model was trained on."""

    def as_json(self) -> dict[str, Any]:
        """The summary as the JSON that `memstore score` prints."""
        drift = None if self.drift is None else self.drift.as_json()
        return {**asdict(self), "seconds": round(self.seconds, 3), "drift": drift}

    def __repr__(self) -> str:
        remembered = f", {self.remembered:,} remembered" if self.remembered else ""
        abstained = f", {self.abstained:,} abstained (band {self.band:.3f})" if self.band is not None else ""
        drift = "" if self.drift is None else f", drifted={self.drift.drifted}"
        output = "" if self.output is None else f", output={self.output!r}"
        details = f"{remembered}{abstained}{drift}{output}; {self.seconds:.1f} s"
        return f"ScoreSummary({self.scored:,} rollouts by {self.model!r}{details})"


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
    judge: Judge | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score all rollouts of the memory that have no ground truth, and store the scores as SCORED_BY edges.

    They take the place of earlier scores of the same model: labels and votes that came since count. The `source` of an
    edge is `remembered` if the score is the verdict on the rollout's answer, otherwise `predicted`.
    The reliabilities of policies are estimated again and stored as RELIABLE_IN edges. If the memory's folder cannot be
    written to, the scores go to `output` only.

    Args:
        model: id of one of the memory's models; None uses the model in use.
        output: file for the scores as JSON lines.
        abstention: withhold or shrink uncertain rewards in `output`; SCORED_BY keeps the model's prediction.
        judge: compares answers with reference answers in the memory, for queries whose labels the model may see; None
            leaves these unused.

    Raises:
        ModelError: the memory has no such model, or the model does not fit the memory or has no band for the risk.
        ReadOnlyError: the memory's folder cannot be written to, and there is no `output`.
    """
    started, progress = time.perf_counter(), progress or Silent()
    if memory.graph.read_only and output is None:
        raise ReadOnlyError(f"the memory {memory.location} cannot be written to; name a file for the scores (--output)")
    check_output(output, "scores")
    job = _Job.of(memory, model, abstention, device)
    progress.stage("read the memory")
    snapshot, contents = read_memory(memory)
    seen = seen_by(job.model, snapshot)
    verdicts = verdicts_of(snapshot, seen)
    progress.stage("score")
    wanted = ~np.isfinite(seen.reward)
    with device_memory(f"scoring {int(wanted.sum()):,} rollouts"):
        read = job.score(snapshot, wanted, seen.reward, verdicts, judge, contents)
    estimates = estimate_reliabilities(snapshot, verdicts)
    if not memory.graph.read_only:
        batch = ScoreBatch(model={"id": job.model.card.id}, scores=score_table(read.scores), replace=True)
        memory.record_scores(batch)
        memory.graph.replace_reliabilities(reliability_edges(estimates))
    mixed = mixed_in_memory(snapshot, estimates)
    summary = job.finish(snapshot, read, output, started)
    return replace(summary, contradictions=verdicts.warning(), warnings=job.warnings(snapshot, seen, mixed))


def score_file(
    memory: Memory,
    file: str | Path,
    *,
    as_ingested: bool = False,
    defaults: RecordDefaults | None = None,
    model: str | None = None,
    output: Path | None = None,
    abstention: Abstention | None = None,
    judge: Judge | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score the rollouts of a file against the labels of the memory, without adding them to the memory.

    A rollout whose answer the memory knows to be right or wrong gets this verdict as its reward.

    Rewards in the file are not read. The group of a rollout is the file's rollouts of the same query, policy, run
    and step, so that the scores are those that the reward service gives to these groups.

    Args:
        as_ingested: score the rollouts as `score_memory_rollouts` would after an ingest of the file, with all its
            rollouts as stored ones. A rollout that the memory holds with a label has this label as its reward.
        defaults: values of rows that lack them, and where rows of another layout have theirs, as for an ingest.
        model, output, abstention, judge, device, progress: as in `score_memory_rollouts`.

    Raises:
        InputError: the file cannot be read or is the output, or a row is no rollout or contradicts the domain of its
            query.
        ModelError: as in `score_memory_rollouts`.
    """
    started, progress = time.perf_counter(), progress or Silent()
    check_output(output, "scores", [file])
    job = _Job.of(memory, model, abstention, device)
    new = memory.read_rollouts([file], defaults, progress=progress)
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    progress.stage("score")
    with device_memory(f"scoring {new.thinkings.num_rows:,} rollouts"):
        seen = seen_by(job.model, snapshot)
        verdicts = verdicts_of(snapshot, seen)
        if as_ingested:
            laid = ingested(snapshot, new, seen.reward)
            read = job.score(laid.snapshot, laid.new, laid.reward, verdicts, judge)
            scores, summary = read.scores, job.finish(laid.snapshot, read, output, started)
        else:
            stored = stored_votes(snapshot, verdicts)
            scores = score_rollouts(
                job.model, snapshot, new, reward=seen.reward, verdicts=verdicts, judge=judge, stored=stored
            )
            groups = groups_of(new)
            summary = job.finish(new, _Read(scores, new, groups.policy_group.cell), output, started)
            alone = int(((groups.policy_group.size == 1) & (groups.query.size > 1)).sum())
            summary = replace(summary, alone=alone)
        place = pc.index_in(new.thinkings["id"], value_set=pa.array(scores.id.tolist(), pa.string())).to_numpy()
        mixed = mixed_in_file(snapshot, new, scores.probability[place])
    return replace(summary, contradictions=verdicts.warning(), warnings=job.warnings(snapshot, seen, mixed))


def bands_of_model(memory: Memory, model: str | None = None) -> tuple[str, list[BandRow]]:
    """List the candidate bands of a model with coverage and error; return its id and the rows.

    Args:
        model: id of one of the memory's models; None uses the model in use.

    Raises:
        ModelError: the memory has no model, no model of this name, or its files cannot be read.
    """
    card = open_model(memory, model, "cpu").card
    return card.id, band_table(card.risks)


class _Read(NamedTuple):
    """Scores, and what the model read for them.

    Attributes:
        target: the queries of the scored rollouts.
        group: int64 [T], group of each rollout of the snapshot that holds the scored ones.
    """

    scores: Scores
    target: Snapshot
    group: IntVector


class _Job(NamedTuple):
    """A model that scores, its training data, and the band in which it abstains."""

    model: RewardModel
    origin: Origin | None
    mode: Mode | None
    band: float | None

    @classmethod
    def of(cls, memory: Memory, model: str | None, abstention: Abstention | None, device: str | None) -> _Job:
        """Open a model; a memory without models and without labels first gets the shipped prior as its model."""
        if model is None and not model_nodes(memory) and not _has_labels(memory):
            train_memory(memory, device=device)
        chosen = open_model(memory, model, device)
        origin = load_origin(model_folder(memory, chosen.card.id))
        if abstention is None:
            return cls(chosen, origin, None, None)
        band = abstention.band
        if band is None:
            band = band_for(chosen.card.risks, abstention.risk, chosen.card.id)
        return cls(chosen, origin, abstention.mode, band)

    def score(
        self,
        snapshot: Snapshot,
        wanted: BoolVector,
        reward: FloatVector,
        verdicts: Verdicts,
        judge: Judge | None,
        contents: Contents | None = None,
    ) -> _Read:
        """Score rollouts of a memory, see `score_memory`. Of an outline, some are compared with the training data."""
        stored = stored_votes(snapshot, verdicts)
        scores = score_memory(
            self.model,
            snapshot,
            wanted,
            reward=reward,
            verdicts=verdicts,
            judge=judge,
            stored=stored,
            contents=contents,
        )
        compared = wanted if contents is None else wanted & _drawn(snapshot, wanted)
        target = memory_target(snapshot, compared)
        return _Read(scores, target if contents is None else contents(target), memory_groups(snapshot, stored))

    def warnings(self, snapshot: Snapshot, seen: Visible, mixed: Sequence[Mixed]) -> list[str]:
        """`ScoreSummary.warnings`."""
        found, origin = [warning_of(mixed)], None if self.model.card.budget is None else self.origin
        if origin is not None and is_redrawn(origin, snapshot, seen.queries):
            found.append(
                f"{self.model.card.id} was trained before a migration gave queries new ids, so that its label budget "
                "shows other labels than those that it was trained on; train a new model"
            )
        return [warning for warning in found if warning]

    def finish(self, snapshot: Snapshot, read: _Read, output: Path | None, started: float) -> ScoreSummary:
        """Abstain, write the output file and compare the target with the training data.

        Args:
            snapshot: holds the scored rollouts.
            started: `time.perf_counter()` at the start of the verb.
        """
        scores, abstained = read.scores, 0
        if self.mode is not None and self.band is not None:
            row = pc.index_in(pa.array(scores.id.tolist(), pa.string()), snapshot.thinkings["id"].combine_chunks())
            scores = abstain(scores, read.group[row.to_numpy()], self.band, self.mode)
            abstained = int(np.isin(scores.source, (ABSTAINED, SHRUNK)).sum())
        if output is not None:
            write_scores(output, snapshot, scores, self.model.card.id)
        drift = None if self.origin is None else self.origin.reference.drift(read.target)
        seconds, where = time.perf_counter() - started, str(output) if output else None
        summary = ScoreSummary(len(scores.id), self.model.card.id, seconds, where, drift, self.band, abstained)
        return replace(summary, remembered=int((scores.source == REMEMBERED).sum()))


def _drawn(snapshot: Snapshot, wanted: BoolVector) -> BoolVector:
    """Rollouts (bool [T]) of queries with `COMPARED` rollouts, of those that have a wanted one."""
    query = query_of_thinkings(snapshot)
    having = np.bincount(query[wanted], minlength=snapshot.queries.num_rows) > 0
    return draw_queries(snapshot, having, COMPARED)[query]


def _has_labels(memory: Memory) -> bool:
    reward = memory.graph.nodes(NodeLabel.THINKING, ["reward"])["reward"]
    return reward.null_count < len(reward)
