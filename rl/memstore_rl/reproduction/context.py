"""What all steps of a plan are made from, and the steps that sample a policy."""

from __future__ import annotations

import shlex
from pathlib import Path

from memstore.errors import InputError
from memstore_rl.reproduction.costs import Costs
from memstore_rl.reproduction.placeholders import filled
from memstore_rl.reproduction.plan import Engine, Plan, PlanFile
from memstore_rl.reproduction.sources import Source, Sources, file_digests
from memstore_rl.reproduction.step import Estimate, Raw, Server, Step, memstore, options


class Context:
    """A plan with its sources, digests and costs."""

    def __init__(self, file: PlanFile, sources: Sources, folder: Path) -> None:
        self.plan: Plan = file.plan
        self.place = file.folder
        """Folder of the plan."""
        self.sources = sources
        self.runs = file.plan.training.all_runs()
        self.costs = Costs(file.plan, sources, folder)
        self._digests = file_digests(file, sources.all)

    def step(self, name: str, command: str, *, identity: str | None = None, **values: object) -> Step:
        """A step. Its identity has the digests of the plan's files that it reads."""
        identity = command if identity is None else identity
        read = [digest for path, digest in self._digests.items() if str(path) in identity]
        return Step(name, command, " ".join([identity.replace(str(self.place), "{plan}"), *read]), **values)  # type: ignore[arg-type]

    def existing(self, path: Path | None, key: str) -> Path | None:
        """The absolute path of a file or folder that the plan names.

        Raises:
            InputError: it does not exist.
        """
        if path is None:
            return None
        found = (self.place / path.expanduser()).resolve()
        if not found.exists():
            raise InputError(f"{key} of the plan is {path}, and {found} does not exist; correct it")
        return found

    def queries_steps(self, sources: list[Source]) -> tuple[str, ...]:
        """Names of the steps that write the queries of these sources."""
        return tuple(f"queries/{source.name}" for source in sources if source.declaration is not None)

    def code(self) -> list[object]:
        """The option of the sandbox."""
        return options({"--code": self.plan.queries.code})

    def model_budgets(self) -> list[float]:
        """Label budgets of the reward models that the trainings use; that of mode verdict sees the smallest budget."""
        own = sorted({run.budget for run in self.runs if run.mode == "memory" and run.budget is not None})
        if not own and any(run.mode == "verdict" for run in self.runs):
            return [min((run.budget for run in self.runs if run.budget is not None), default=0.2)]
        return own

    def sampling(
        self,
        name: str,
        engine: Engine,
        words: list[object],
        output: str,
        *,
        needs: tuple[str, ...],
        values: dict[str, str],
        estimate: Estimate,
        requires: tuple[str, ...] = (),
    ) -> Step:
        """A step of `memstore rollout`.

        Args:
            words: queries and sampling.
            values: placeholders of the engine.
        """
        values = {name: shlex.quote(value) for name, value in {"plan": str(self.place), **values}.items()}
        endpoint = None if engine.endpoint is None else filled(engine.endpoint, values)
        words = [*words, "--output", output, *self.code(), *options({"--no-chat": not engine.chat})]
        server = None
        if engine.serve is not None and endpoint is not None:
            server = Server(filled(engine.serve, values), endpoint)
        return self.step(
            name,
            memstore("rollout", *words, *self._reached(engine, endpoint), "--json"),
            identity=memstore("rollout", *words),
            needs=needs,
            outputs=(output,),
            resumes=True,
            server=server,
            gpu=engine.vllm,
            brought=(output,),
            requires=requires,
            estimate=estimate,
        )

    def _reached(self, engine: Engine, endpoint: str | None) -> list[object]:
        """The options that say where a model is and how fast it is asked; no result depends on them."""
        return options({
            "--endpoint": endpoint and Raw(endpoint if "{port}" in endpoint else shlex.quote(endpoint)),
            "--vllm": engine.vllm, "--vllm-options": engine.vllm_options,
            "--api-key-file": self.existing(engine.api_key_file, "api_key_file"),
            "--concurrency": engine.concurrency, "--rate": engine.rate, "--timeout": engine.timeout,
            "--tries": engine.tries, "--no-logprobs": not engine.logprobs,
        })  # fmt: skip
