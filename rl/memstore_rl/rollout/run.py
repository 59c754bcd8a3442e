"""`rollout`: sample the rollouts that the output file lacks, grade them, and write each one before it counts.

    questions -> samples missing from the file -> engine -> rows -> grades -> file -> memory

Every stage hands over a bounded number of items, so memory grows with the number of concurrent requests and not with
the number of questions (apart from eight bytes for each rollout that the file already held). Grading and writing run in
a thread; a block is ingested in another thread while the file collects the next one.

However a run ends, the file holds whole rollouts only. The next run of the same command samples the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.progress import AnnotatedProgress, Silent
from memstore_rl.benchmarks.question import Question
from memstore_rl.benchmarks.splits import labelled_ids
from memstore_rl.rollout.batching import Put, batches
from memstore_rl.rollout.engine import Engine, Reply, SampleRequest, Sampling
from memstore_rl.rollout.file import RolloutFile
from memstore_rl.rollout.grading import grade
from memstore_rl.rollout.ingest_sink import IngestSink
from memstore_rl.rollout.rows import RowBuilder
from memstore_rl.rollout.signals import run_until_signal
from memstore_rl.rollout.summary import Prices, RolloutSummary
from memstore_rl.verifiers import Verifiers

MAX_WAITING_REPLIES = 256
"""Replies that may wait to be written before the engine is paused."""
BLOCK_ROWS = 1024
"""Rollouts of one ingest block; each block has a fixed cost (a transaction, a flush)."""
STAGE = "rollouts"


@dataclass(frozen=True)
class RolloutPlan:
    """What to sample for each question, and which labels to use."""

    n: int = 1
    """Rollouts of each question."""
    sampling: Sampling = field(default_factory=Sampling)
    run: str | None = None
    step: int | None = None
    budget: float | None = None
    """Share of each dataset's training queries that keep their ground truth, 0..1; all other queries lose theirs.
    None: all queries keep it."""
    budget_seed: int = 0
    prices: Prices | None = None
    block_rows: int = BLOCK_ROWS

    def __post_init__(self) -> None:
        sampling = self.sampling
        if self.n < 1:
            raise InputError(f"the number of rollouts per query is {self.n}; it must be 1 or more")
        if sampling.temperature < 0 or not 0 < sampling.top_p <= 1 or sampling.max_tokens < 1:
            raise InputError(
                f"invalid sampling parameters: temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, "
                f"max_tokens {sampling.max_tokens}; temperature must be 0 or more, top_p over 0 and up to 1, and "
                "max_tokens 1 or more"
            )


def rollout(
    questions: Sequence[Question],
    engine: Engine,
    output: Path,
    plan: RolloutPlan,
    *,
    verifiers: Verifiers | None = None,
    memory: Memory | None = None,
    progress: AnnotatedProgress | None = None,
) -> RolloutSummary:
    """Sample the rollouts of these questions that the output file lacks, and append them to it.

    Args:
        questions: without duplicates.
        output: the file of rollouts; created if it does not exist.
        verifiers: grade rollouts with these; None: do not grade.
        memory: ingest the rollouts into this memory while the file grows.

    Raises:
        InputError: the plan is invalid, or the file is not a file of rollouts.
        LockedError: another process writes the file.
        MemstoreError: the engine cannot continue, or the file or memory cannot be written; what was written is kept.
    """
    labelled = labelled_ids(questions, plan.budget, plan.budget_seed) if plan.budget is not None else None
    builder = RowBuilder(engine.model, plan.sampling, plan.run, plan.step, labelled)
    with RolloutFile(output) as file:
        sink = IngestSink(memory, file.path) if memory is not None else None
        run = _Run(questions, engine, file, plan, builder, verifiers, sink, progress or Silent())
        started = time.monotonic()
        run_until_signal(run.all())
        if sink is not None:
            sink.link(run.progress)
        run.summary.seconds = time.monotonic() - started
    return run.summary


class _Run:
    """State of one run."""

    def __init__(
        self,
        questions: Sequence[Question],
        engine: Engine,
        file: RolloutFile,
        plan: RolloutPlan,
        builder: RowBuilder,
        verifiers: Verifiers | None,
        sink: IngestSink | None,
        progress: AnnotatedProgress,
    ) -> None:
        self.questions = questions
        self.engine = engine
        self.file = file
        self.plan = plan
        self.builder = builder
        self.keys = builder.keys()
        self.verifiers = verifiers
        self.sink = sink
        self.progress = progress
        self.summary = RolloutSummary(engine.model, file.path, engine.usage, prices=plan.prices)
        self.summary.ingested = sink.counts if sink else None
        self._rows_to_ingest = 0
        self._ingest: asyncio.Future[None] | None = None
        self._started = time.monotonic()

    async def all(self) -> None:
        """Sample, grade and write until every sample has a reply."""
        self.progress.stage(STAGE, len(self.questions) * self.plan.n)
        self._ingest_if_due(0)

        async def generate(put: Put[Reply]) -> None:
            async for reply in self.engine.generate(self._requests(), self.plan.sampling):
                await put(reply)

        try:
            async with aclosing(batches(generate, MAX_WAITING_REPLIES)) as reply_batches:
                async for replies in reply_batches:
                    await self._handle(replies)
        finally:
            # Let a running ingest finish its block, also when Ctrl-C or an error ends the run.
            if self._ingest is not None:
                await asyncio.wait([self._ingest])
        await self._ingest_rest()

    def _requests(self) -> Iterator[SampleRequest]:
        """The samples that the file lacks, question by question."""
        samples = range(self.plan.n)
        for question in self.questions:
            self.summary.queries += 1
            self.summary.labelled += self.builder.gold(question) is not None
            missing = self.file.missing(self.keys.of(question, samples))
            wanted = tuple(sample for sample in samples if missing[sample])
            existing = self.plan.n - len(wanted)
            if existing:
                self.summary.existing += existing
                self.progress.advance(existing)
            if wanted:
                yield SampleRequest(question, wanted)

    async def _handle(self, replies: list[Reply]) -> None:
        """Write the successful replies, count all of them, and report progress."""
        succeeded = [reply for reply in replies if reply.text is not None]
        for reply in replies:
            if reply.text is None:
                self.summary.add_failed(reply)
        if succeeded:
            rewards = await asyncio.to_thread(self._write, succeeded)
            for reply in succeeded:
                self.summary.add_written(reply)
            self.summary.graded += len(rewards)
            self.summary.rewards += sum(rewards)
            self._ingest_if_due(len(succeeded))
        rate = self.engine.usage.completion_tokens / max(time.monotonic() - self._started, 1e-9)
        self.progress.note(f"{rate:,.0f} tokens/s")
        self.progress.advance(len(replies))

    def _write(self, replies: list[Reply]) -> list[float]:
        """Grade the replies and append them to the file; return the rewards."""
        rows = [self.builder.row(reply, *self.keys.of(reply.question, [reply.sample])) for reply in replies]
        rewards = grade(rows, self.verifiers) if self.verifiers is not None else []
        self.file.append(rows)
        return rewards

    def _ingest_if_due(self, rows: int) -> None:
        """Start an ingest if a block is complete and none is running; with 0 rows, ingest what the file holds."""
        if self.sink is None:
            return
        self._rows_to_ingest += rows
        if self._ingest is not None and self._ingest.done():
            self._ingest.result()
            self._ingest = None
        if self._ingest is None and (self._rows_to_ingest >= self.plan.block_rows or not rows):
            self._rows_to_ingest = 0
            loop = asyncio.get_running_loop()
            self._ingest = loop.run_in_executor(None, self.sink.ingest_up_to, self.file.size)

    async def _ingest_rest(self) -> None:
        if self.sink is not None:
            if self._ingest is not None:
                self._ingest.result()
            self.progress.stage("ingest")
            await asyncio.to_thread(self.sink.ingest_up_to, self.file.size)
