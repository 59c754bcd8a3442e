"""Estimates of what the steps cost. They are assumptions times sizes, and say so.

The figures for this machine are from docs/measured.md and docs/evaluate.md: two cores, no GPU.
"""

from __future__ import annotations

from pathlib import Path

from memstore_rl.reproduction.plan import Plan, Run
from memstore_rl.reproduction.sources import Sources
from memstore_rl.reproduction.step import Estimate

SHORT_S, QUERIES_S = 3.0, 10.0
"""Seconds of a command that only reads and writes files, and of one that loads a benchmark that is in the cache."""
INGEST_S, TRAIN_S, SCORE_S = 0.0005, 0.003, 0.0006
"""Seconds for each rollout, embedding left out; training of one reward model; scoring."""
PREDICTOR_S = {"paper": 0.01, "paper_reversed": 0.01, "memstore": 0.003}
OTHER_PREDICTOR_S = 0.0003
"""Seconds for each rollout, budget and seed."""
VLLM_LOAD_S = 60.0
"""Seconds until vLLM has loaded a model."""


class Costs:
    """Estimates for one plan."""

    def __init__(self, plan: Plan, sources: Sources, folder: Path) -> None:
        limit = plan.queries.limit
        inside = [source.sizes(folder, limit) for source in sources.in_domain]
        outside = [source.sizes(folder, limit) for source in sources.out_of_domain]
        self.train_queries = sum(sizes.train for sizes in inside)
        self.test_queries = sum(sizes.test for sizes in [*inside, *outside])
        self._plan, self._assumed = plan, plan.assumptions
        self._stored = self.train_queries * plan.rollouts.samples

    def queries(self) -> Estimate:
        """Of writing queries to a file."""
        return Estimate(seconds=QUERIES_S)

    def short(self) -> Estimate:
        """Of a command that reads and writes small files."""
        return Estimate(seconds=SHORT_S)

    def rollouts(self, *, gpu: bool) -> Estimate:
        """Of the rollouts of the training queries; with `gpu` by vLLM in the process, else at an endpoint."""
        return self._sampled(self.train_queries, self._plan.rollouts.samples, gpu)

    def test(self, *, gpu: bool) -> Estimate:
        """Of the rollouts of the test queries."""
        return self._sampled(self.test_queries, self._plan.evaluation.samples, gpu)

    def ingest(self) -> Estimate:
        """Of embedding and storing the rollouts."""
        return Estimate(seconds=self._stored * (INGEST_S + 2 / self._assumed.cpu_texts_per_second))

    def reward_model(self) -> Estimate:
        """Of training one reward model."""
        return Estimate(seconds=10 + self._stored * TRAIN_S)

    def score(self) -> Estimate:
        """Of scoring the memory."""
        return Estimate(seconds=3 + self._stored * SCORE_S)

    def predictors(self) -> Estimate:
        """Of the comparison of predictors at one label budget."""
        asked = self._plan.reward_models
        each = sum(PREDICTOR_S.get(name, OTHER_PREDICTOR_S) for name in asked.predictors)
        return Estimate(seconds=10 + self._stored * each * len(asked.seeds))

    def training(self, run: Run, gpus: int) -> Estimate:
        """Of one training: the tokens of all its rollouts at the assumed speed of a GPU."""
        training, assumed = self._plan.training, self._assumed
        share = run.budget if run.mode == "budget" and run.budget is not None else 1.0
        rollouts = round(self.train_queries * share) * training.n * training.epochs
        prompts, completions = rollouts * assumed.prompt_tokens, rollouts * assumed.completion_tokens
        if not training.gpu:
            return Estimate(seconds=assumed.cpu_training_seconds)
        hours = (prompts + completions) / assumed.gpu_tokens_per_second / 3600
        return Estimate(seconds=3600 * hours / gpus, gpu_hours=hours)

    def _sampled(self, queries: int, samples: int, gpu: bool) -> Estimate:
        calls, assumed = queries * samples, self._assumed
        completions = calls * assumed.completion_tokens
        # An endpoint reads the prompt once for all samples of a query.
        prompts = queries * assumed.prompt_tokens
        seconds = completions / assumed.endpoint_tokens_per_second
        if not gpu:
            return Estimate(calls, prompts, completions, seconds)
        seconds += VLLM_LOAD_S
        return Estimate(0, prompts, completions, seconds, seconds / 3600)

    def assumptions(self) -> str:
        """What the estimates assume, as a sentence."""
        assumed = self._assumed
        return (
            f"estimates, not measurements: {self.train_queries:,} training and {self.test_queries:,} test queries, "
            f"{assumed.prompt_tokens:,} tokens a prompt and {assumed.completion_tokens:,} a response, "
            f"{assumed.endpoint_tokens_per_second:,.0f} completion tokens a second where they are sampled, "
            f"{assumed.gpu_tokens_per_second:,.0f} tokens of rollouts a second and GPU in a training of "
            f"{self._plan.training.epochs} epochs, {assumed.cpu_texts_per_second:,.0f} texts embedded a second, two "
            "cores for the rest; [assumptions] of the plan sets them"
        )
