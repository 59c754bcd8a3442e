"""Scores groups: ground truth for labelled queries that can be verified, remembered verdicts, predictions for the rest.

In mode `verdict`, ground truth is bought within a budget of verifier calls (`memstore_rl.rewards.verdict_mode`).

Every trainer hook and the reward service use `GroupScorer`. Its guarantees:

- Rewards come in the order of the rollouts, one each. `score_groups` gives each group the rewards that `score_group`
  gives it alone; only the latency differs.
- Ground truth is never a fallback, and a failure is never a zero (see `memstore_rl.rewards.reward`). A failure of the
  embedder, the model or the memory raises; no error is turned into a number.
- Any text that a policy wrote is scored. Invalid input from the trainer raises InputError, which names the group: no
  rollouts, a query without text, a rollout without response, a step that is not an integer. If the memory has another
  domain for a query than the trainer sends, the memory's counts and a warning is logged once.
- The memory is only read. `refresh` re-reads it, and `taking_up` changes to another reward model.
- Thread-safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from memstore.errors import InputError
from memstore.locations.location import Location
from memstore.memory import Memory
from memstore.records.columns import IdentifiedRecord
from memstore_gnn.data.verdicts import Verdict as Remembered
from memstore_gnn.models.registry import model_in_use, model_nodes
from memstore_gnn.scoring.remembered import Judge
from memstore_rl.rewards.assembly import Assembler
from memstore_rl.rewards.gauge import Gauge, GaugeSettings
from memstore_rl.rewards.gauge_feed import GaugeFeed
from memstore_rl.rewards.known import Knowledge, KnownQueries, MemoryVerdicts, judged_answers_by_run
from memstore_rl.rewards.memory_model import Embed, MemoryModel
from memstore_rl.rewards.reward import Group, Mode, Reward, RewardQuery, Rollout, Shaping
from memstore_rl.rewards.shaping import Predicted, ShapingSettings
from memstore_rl.rewards.tasks import Task, TaskReader, VerifiedGroup, check_mode, complete, step_of
from memstore_rl.rewards.verdict_mode import VerdictMode
from memstore_rl.rewards.verdicts import VerdictBuyer, VerdictCounts
from memstore_rl.rewards.verifier_budget import NEEDS_BUDGET, VerifierBudget
from memstore_rl.verifiers import Verifiers, standard_verifiers
from memstore_rl.verifiers.protocol import Attempt, Verdict
from memstore_rl.verifiers.stored_golds import judge_of


class GroupScorer:
    """Scores groups of rollouts; see the module's docstring. Use it as a context manager, or call `close`.

    Example:
        with GroupScorer.open("my-memory", expected=8) as scorer:
            rewards = scorer.score_group(RewardQuery(text, dataset="gsm8k", domain="math", gold=None), rollouts)
    """

    def __init__(
        self,
        model: MemoryModel | None,
        *,
        mode: Mode = "memory",
        expected: int | None = None,
        shaping: Shaping = "probability",
        min_spread: float = 0.0,
        residual_weight: float = 1.0,
        verifier_budget: VerifierBudget | None = None,
        verifiers: Verifiers | None = None,
        memory: Knowledge | None = None,
        gauge: GaugeSettings | None = None,
    ) -> None:
        """Create a scorer over an open model; usually you call `open` instead.

        Args:
            model: the reward model; None for modes that use none, or for mode `verdict` as long as there is none.
            mode: where rewards come from; see `memstore_rl.rewards.reward`.
            expected: number of rollouts in a full group; None: a group is short only by its own `expected`.
            shaping: how a probability becomes a reward; ground truth is never shaped.
            min_spread: a group whose probabilities are closer together than this gets one reward, with a reason.
            residual_weight: factor of shaping `residual`.
            verifier_budget: limits of the verifier calls of mode `verdict`, which needs it.
            verifiers: verifiers by domain; None: maths and multiple choice. The caller closes those it passes.
            memory: a memory without a reward model, whose verdicts mode `verdict` uses; None: that of the model.
            gauge: how the gauge measures whether the memory helps, and what it does if not; None: its defaults.

        Raises:
            InputError: unknown mode or shaping, mode `memory` without a model, mode `verdict` without a budget,
                `expected` below 1, a spread outside 0..1, or an invalid weight.
        """
        self._model: MemoryModel | None = None
        self._memory: Knowledge | None = memory if model is None else model
        self._tasks = TaskReader(self._memory, mode, expected, has_budget=verifier_budget is not None)
        self._shaping = ShapingSettings(shaping, min_spread, residual_weight)
        self._assembler = Assembler(None, self._shaping)
        self._gauge = Gauge(gauge)
        self._feed: GaugeFeed | None = None
        if model is not None:
            self._use(model)
        self._open_first: Callable[[Path], MemoryModel] | None = None
        """Opens the first reward model of a memory that had none at opening."""
        self._resources = ExitStack()
        self._verifiers = verifiers if verifiers is not None else standard_verifiers()
        if verifiers is None:
            self._resources.callback(self._verifiers.close)
        self._judge = judge_of(self._verifiers)
        self._verdict_mode: VerdictMode | None = None
        if verifier_budget is not None:
            buyer = VerdictBuyer(verifier_budget, self._verifiers)
            self._resources.callback(buyer.close)
            self._verdict_mode = VerdictMode(buyer)

    @classmethod
    def open(
        cls,
        location: str | Path | Location | Memory | None = None,
        *,
        mode: Mode = "memory",
        model: str | None = None,
        device: str | None = None,
        expected: int | None = None,
        shaping: Shaping = "probability",
        min_spread: float = 0.0,
        residual_weight: float = 1.0,
        verifier_budget: VerifierBudget | None = None,
        verifiers: Verifiers | None = None,
        gauge: GaugeSettings | None = None,
        embed: Embed | None = None,
    ) -> Self:
        """Open a memory and one of its reward models, by default the newest.

        Args:
            location: as for `Memory.open`; an open memory is used and stays open. Ignored in the modes `oracle` and
                `budget`, which use no model, unless there is a budget of verifier calls.
            model: id of the reward model; None: the memory's default. With a budget of verifier calls the memory may
                have no model yet.
            device: where the model runs; None: a GPU if there is one.
            embed: embeds texts instead of the memory's embedder and cache.

        Raises:
            LocationError, LockedError, SchemaError, StoreError, EmbedderError: the memory cannot be opened.
            ModelError: the reward model does not exist or does not fit the memory.
            InputError: as in the constructor.
        """
        create = partial(
            cls,
            mode=mode,
            expected=expected,
            shaping=shaping,
            min_spread=min_spread,
            residual_weight=residual_weight,
            verifier_budget=verifier_budget,
            verifiers=verifiers,
            gauge=gauge,
        )
        check_mode(mode)
        if mode == "verdict" and verifier_budget is None:
            raise InputError(NEEDS_BUDGET)
        if mode in ("oracle", "budget") and verifier_budget is None:
            return create(None)
        with ExitStack() as resources:
            memory = location if isinstance(location, Memory) else resources.enter_context(Memory.open(location))
            if verifier_budget is not None and mode != "memory" and model is None and not _has_model(memory):
                scorer = create(None, memory=MemoryVerdicts(memory))
                scorer._open_first = lambda folder: MemoryModel.of_memory(
                    memory, folder=folder, device=device, embed=embed
                )
            else:
                scorer = create(MemoryModel.of_memory(memory, model=model, device=device, embed=embed))
            if scorer._verdict_mode is not None:
                scorer._verdict_mode.buyer.read_earlier = partial(judged_answers_by_run, memory)
            scorer._resources.push(resources.pop_all())
            return scorer

    @property
    def mode(self) -> Mode:
        """Default mode of groups without their own."""
        return self._tasks.mode

    @property
    def model(self) -> MemoryModel | None:
        """The reward model with its memory; None if the mode uses none."""
        return self._model

    @property
    def trainable(self) -> bool:
        """Whether it can take up a model that is trained on its memory."""
        return self._model is not None or self._open_first is not None

    @property
    def shaping(self) -> ShapingSettings:
        """How a probability becomes a reward."""
        return self._shaping

    @property
    def verdict_counts(self) -> VerdictCounts | None:
        """Calls and verdicts of mode `verdict`; None without a budget of verifier calls."""
        return None if self._verdict_mode is None else self._verdict_mode.buyer.counts

    @property
    def gauge(self) -> Gauge:
        """Measures whether the memory helps the policy; without a reward model it sees nothing."""
        return self._gauge

    def score_group(
        self, query: RewardQuery, rollouts: Sequence[Rollout], *, expected: int | None = None
    ) -> list[Reward]:
        """Return the reward of each rollout, in order."""
        return self.score_groups([Group(query, rollouts, expected)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Reward]]:
        """Return the rewards of several groups, in order, computed in one batch."""
        verified = self.verify(groups)
        rewards = self.score_verified(verified)
        self.mark_recorded(verified, rewards)
        return rewards

    def verify(self, groups: Sequence[Group]) -> list[VerifiedGroup]:
        """Validate groups and verify the labelled ones: the part of scoring that runs programs and compares formulas.

        The programs of the other groups are interpreted, for `score_verified` to compare. It is separate so that a
        service can score other requests meanwhile. Groups of mode `verdict` are not verified here: `score_verified`
        buys their verdicts. Those without a step share the budget of a step of their own.
        """
        started, call = time.perf_counter(), object()
        tasks = [self._tasks.read(number, group) for number, group in enumerate(groups)]
        verdicts = self._verdicts(tasks)
        remembered = self._remembered(tasks, verdicts)
        verified = [
            VerifiedGroup(task, judged, 0.0, recalled, step=step_of(task.group, call))
            for task, judged, recalled in zip(tasks, verdicts, remembered, strict=True)
        ]
        if self._verdict_mode is not None:
            known = self._memory.known if self._memory is not None else KnownQueries()
            verified = self._verdict_mode.read(verified, known)
        programs = [one.task.records for one in verified if one.task.domain == "code" and self._may_predict(one)]
        if programs and self._model is not None:
            self._model.run_programs(programs)
        seconds = time.perf_counter() - started
        return [replace(one, seconds=seconds) for one in verified]

    def score_verified(self, groups: Sequence[VerifiedGroup]) -> list[list[Reward]]:
        """Return the rewards of verified groups, in order, computed in one batch."""
        started = time.perf_counter()
        batch = self._feed.start(groups) if self._feed is not None else None
        stopped = batch is not None and batch.stopped
        to_predict = [
            number for number, group in enumerate(groups) if group.needs_model and not (stopped and _is_withheld(group))
        ]
        predicted: dict[int, Predicted] = {}
        if to_predict and self._model is not None:
            predictions = self._model.predict([groups[number].task.records for number in to_predict])
            predicted = dict(zip(to_predict, predictions, strict=True))
        bought = self._verdict_rewards(groups, predicted, started)
        seconds = time.perf_counter() - started
        rewards = [
            bought.get(number)
            or self._assembler.rewards(
                group, predicted.get(number), group.seconds + seconds, withheld=stopped and _is_withheld(group)
            )
            for number, group in enumerate(groups)
        ]
        if self._feed is not None and batch is not None:
            self._feed.finish(batch, groups, rewards)
        return rewards

    def mark_recorded(self, groups: Sequence[VerifiedGroup], rewards: Sequence[Sequence[Reward]]) -> None:
        """Tell that the rewards of `score_verified` are stored for good.

        Verdicts that mode `verdict` bought for them are remembered from now on. Before, rewards with these verdicts
        are ground truth, so that a verdict whose rewards could not be stored is not lost.
        """
        if self._verdict_mode is not None:
            self._verdict_mode.mark_recorded(groups, rewards)

    @contextmanager
    def taking_up(self, folder: Path) -> Iterator[None]:
        """Read another reward model; change to it after the context, unless it raises. The model may be the first.

        Args:
            folder: of the model.

        Raises:
            ModelError: the model cannot be read or does not fit the memory; the present one stays.
            InputError: this scorer cannot change its model.
        """
        if self._model is not None:
            with self._model.taking_up(folder):
                yield
        elif self._open_first is not None:
            first = self._open_first(folder)
            yield
            self._use(first)
        else:
            raise InputError("this scorer uses no reward model; open a memory to score with one")

    def _use(self, model: MemoryModel) -> None:
        """Score with a reward model."""
        self._memory = self._tasks.memory = model
        self._assembler = Assembler(model, self._shaping)
        self._feed = GaugeFeed(self._predict_unmonitored, self._gauge)
        self._model = model

    def refresh(self) -> None:
        """Re-read the memory; calls in progress keep the state they started with."""
        if self._memory is not None:
            self._memory.refresh()

    def _verdict_rewards(
        self, groups: Sequence[VerifiedGroup], predicted: Mapping[int, Predicted], started: float
    ) -> dict[int, list[Reward]]:
        """Rewards of the groups of mode `verdict`, by their position."""
        numbers = [number for number, group in enumerate(groups) if group.task.mode == "verdict"]
        if self._verdict_mode is None or not numbers:
            return {}
        chosen, predictions = [groups[number] for number in numbers], [predicted.get(number) for number in numbers]
        return dict(zip(numbers, self._verdict_mode.rewards(chosen, predictions, started), strict=True))

    def _may_predict(self, group: VerifiedGroup) -> bool:
        """Whether the model may be asked for a group, for its rewards or for the gauge."""
        if group.needs_model:
            return not (self._gauge.stopped and _is_withheld(group))
        return self._feed is not None and self._feed.may_judge(group)

    def _predict_unmonitored(self, groups: Sequence[Sequence[IdentifiedRecord]]) -> list[Predicted]:
        """Predict groups with the model that is in use now, unseen by `vote_drift`."""
        assert self._model is not None
        return self._model.predict(groups, monitored=False)

    def _verdicts(self, tasks: Sequence[Task]) -> list[list[Verdict] | None]:
        """Verify all groups that are to be verified here, one call per domain; None for the others."""
        labelled = [(task, item.record) for task in tasks if task.is_verified for item in task.records]
        attempts = [Attempt(record.query, task.group.query.gold or "", record.answer) for task, record in labelled]
        verdicts = iter(self._verifiers.check_all([task.domain for task, _ in labelled], attempts))
        return [[next(verdicts) for _ in task.records] if task.is_verified else None for task in tasks]

    def _remembered(
        self, tasks: Sequence[Task], verdicts: Sequence[list[Verdict] | None]
    ) -> list[list[Remembered | None]]:
        """Recall verdicts of the memory for all rollouts of the modes `memory` and `verdict` without ground truth."""
        found: list[list[Remembered | None]] = [[None] * len(task.records) for task in tasks]
        if self._memory is None:
            return found
        modes: dict[Mode, Judge | None] = {"memory": self._judge, "verdict": None}  # a judge would call a verifier
        for mode, judge in modes.items():
            wanted = [
                number
                for number, (task, judged) in enumerate(zip(tasks, verdicts, strict=True))
                if task.mode == mode and task.group.query.remember and not complete(judged)
            ]
            recalled = self._memory.known.recall([tasks[number].records for number in wanted], judge)
            for number, of_task in zip(wanted, recalled, strict=True):
                found[number] = of_task
        return found

    def close(self) -> None:
        """Close what this scorer opened; calling it again does nothing."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _has_model(memory: Memory) -> bool:
    return model_in_use(memory, model_nodes(memory)) is not None


def _is_withheld(group: VerifiedGroup) -> bool:
    """Whether a group has no prediction while the gauge stops them. Mode `verdict` needs them to choose what to ask."""
    return group.needs_model and group.task.mode == "memory"
