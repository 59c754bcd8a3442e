"""`rollout`: questions are asked, the replies graded, and every rollout is in the file before it counts.

    questions -> what the file lacks -> engine -> rows -> grade -> file -> memory

Every arrow hands over a bounded number of things, so what is held in this process grows with the requests that are
under way, not with the questions (but for eight bytes a rollout that the file held before). Grading and writing run in
a thread; the ingest of a block in another, while the next one is gathered in the file.

A run that ends at any instant, however it ends, leaves the file with whole rollouts. The next run of the same command
asks for the others.
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
from memstore_rl.benchmarks.sample import labelled_ids
from memstore_rl.rollout.ending import run_to_an_end
from memstore_rl.rollout.engine import Ask, Engine, Reply, Sampling
from memstore_rl.rollout.file import RolloutFile
from memstore_rl.rollout.grading import grade
from memstore_rl.rollout.ingest_sink import MemoryFeed
from memstore_rl.rollout.rows import Drawn
from memstore_rl.rollout.stream import Put, batches
from memstore_rl.rollout.summary import Prices, RolloutSummary
from memstore_rl.verifiers import Verifiers

ROOM = 256
"""Replies that may wait to be written."""
BLOCK_ROWS = 1024
"""Rollouts that are ingested together: a block has a price of its own (a transaction, a flush)."""
STAGE = "rollouts"


@dataclass(frozen=True)
class RolloutPlan:
    """What is wanted of every question."""

    n: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    run: str | None = None
    step: int | None = None
    budget: float | None = None
    """The share of each dataset's training queries that keep their ground truth, and no others; None: all do."""
    budget_seed: int = 0
    prices: Prices | None = None
    block_rows: int = BLOCK_ROWS

    def __post_init__(self) -> None:
        sampling = self.sampling
        if self.n < 1:
            raise InputError(f"{self.n} rollouts a query cannot be asked for; pass 1 or more")
        if sampling.temperature < 0 or not 0 < sampling.top_p <= 1 or sampling.max_tokens < 1:
            raise InputError(
                f"nothing can be sampled with temperature {sampling.temperature:g}, top_p {sampling.top_p:g} and "
                f"{sampling.max_tokens} tokens; a temperature is 0 or more, top_p over 0 and up to 1, tokens 1 or more"
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
    """Ask for the rollouts of these questions that the file lacks, and add them to it.

    Args:
        questions: each once.
        output: the file; made where it is not there.
        verifiers: grade with them what they can judge; None: rewards are left open.
        memory: ingest into it, as the file grows.

    Raises:
        InputError: the plan or the file is none.
        LockedError: another process writes the file.
        MemstoreError: the engine can give nothing (more), or file or memory cannot be written; what was done is kept.
    """
    keep = labelled_ids(questions, plan.budget, plan.budget_seed) if plan.budget is not None else None
    drawn = Drawn(engine.model, plan.sampling, plan.run, plan.step, keep)
    with RolloutFile(output) as file:
        feed = MemoryFeed(memory, file.path) if memory is not None else None
        run = _Run(questions, engine, file, plan, drawn, verifiers, feed, progress or Silent())
        started = time.monotonic()
        run_to_an_end(run.all())
        if feed is not None:
            feed.link(run.progress)
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
        drawn: Drawn,
        verifiers: Verifiers | None,
        feed: MemoryFeed | None,
        progress: AnnotatedProgress,
    ) -> None:
        self.questions = questions
        self.engine = engine
        self.file = file
        self.plan = plan
        self.drawn = drawn
        self.keys = drawn.keys()
        self.verifiers = verifiers
        self.feed = feed
        self.progress = progress
        self.summary = RolloutSummary(engine.model, file.path, engine.usage, prices=plan.prices)
        self.summary.fed = feed.fed if feed else None
        self._fed_rows = 0
        self._feeding: asyncio.Future[None] | None = None
        self._started = time.monotonic()

    async def all(self) -> None:
        """Ask, grade and write until there is a reply for every sample."""
        self.progress.stage(STAGE, len(self.questions) * self.plan.n)
        self._feed_if_due(0)

        async def ask(put: Put[Reply]) -> None:
            async for reply in self.engine.generate(self._asks(), self.plan.sampling):
                await put(reply)

        try:
            async with aclosing(batches(ask, ROOM)) as gathered:
                async for replies in gathered:
                    await self._keep(replies)
        finally:
            # A block that is being ingested is finished; also where Ctrl-C or an error ends the run.
            if self._feeding is not None:
                await asyncio.wait([self._feeding])
        await self._feed_rest()

    def _asks(self) -> Iterator[Ask]:
        """What the file lacks, question by question."""
        samples = range(self.plan.n)
        for question in self.questions:
            self.summary.queries += 1
            self.summary.labelled += self.drawn.gold(question) is not None
            lacking = self.file.lacks(self.keys.of(question, samples))
            wanted = tuple(sample for sample in samples if lacking[sample])
            held = self.plan.n - len(wanted)
            if held:
                self.summary.held += held
                self.progress.advance(held)
            if wanted:
                yield Ask(question, wanted)

    async def _keep(self, replies: list[Reply]) -> None:
        """Write what came, and say so."""
        good = [reply for reply in replies if reply.text is not None]
        for reply in replies:
            if reply.text is None:
                self.summary.lost(reply)
        if good:
            rewards = await asyncio.to_thread(self._write, good)
            for reply in good:
                self.summary.kept(reply)
            self.summary.graded += len(rewards)
            self.summary.rewards += sum(rewards)
            self._feed_if_due(len(good))
        rate = self.engine.usage.completion_tokens / max(time.monotonic() - self._started, 1e-9)
        self.progress.note(f"{rate:,.0f} tokens/s")
        self.progress.advance(len(replies))

    def _write(self, replies: list[Reply]) -> list[float]:
        """Rows of these replies, graded, into the file; the rewards that were given."""
        rows = [self.drawn.row(reply, *self.keys.of(reply.question, [reply.sample])) for reply in replies]
        rewards = grade(rows, self.verifiers) if self.verifiers is not None else []
        self.file.append(rows)
        return rewards

    def _feed_if_due(self, rows: int) -> None:
        """Begin to ingest where enough is waiting and nothing is under way; also what the file held before."""
        if self.feed is None:
            return
        self._fed_rows += rows
        if self._feeding is not None and self._feeding.done():
            self._feeding.result()
            self._feeding = None
        if self._feeding is None and (self._fed_rows >= self.plan.block_rows or not rows):
            self._fed_rows = 0
            self._feeding = asyncio.get_running_loop().run_in_executor(None, self.feed.take, self.file.size)

    async def _feed_rest(self) -> None:
        if self.feed is not None:
            if self._feeding is not None:
                self._feeding.result()
            self.progress.stage("ingest")
            await asyncio.to_thread(self.feed.take, self.file.size)
