"""Rewards of whole groups for SkyRL, as a generator around its own.

    class Experiment(BasePPOExp):
        def get_generator(self, cfg, tokenizer, inference_engine_client):
            own = super().get_generator(cfg, tokenizer, inference_engine_client)
            return GroupRewardGenerator(own, tokenizer, group_size=cfg.generator.n_samples_per_prompt)

A generator sees what `postprocess_generator_output` does not: the rows with their gold answers, the step, and whether
it is an evaluation. Its rewards are there before SkyRL samples dynamically, and the asynchronous trainers use it too.
It replaces the rewards of the environment. Groups are the prompts of a batch, by SkyRL's instance ids; a row that
occurs twice in the data has two.

The hook imports nothing of SkyRL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memstore.errors import InputError
from memstore.text.chat import plain_output
from memstore_rl.rewards.reward import Rollout
from memstore_rl.trainers.hook import environment_hook
from memstore_rl.trainers.rows import Row, labelled_query


class GroupRewardGenerator:
    """A `GeneratorInterface` whose rewards come from the reward service.

    Args:
        generator: SkyRL's own; everything but the rewards is its.
        tokenizer: decodes the responses.
        group_size: of the training; None: no group is short.
        mean_only, group_relative: of the trainer's advantage (`HookSettings`); None: the settings of the environment.
    """

    def __init__(
        self,
        generator: Any,
        tokenizer: Any,
        *,
        group_size: int | None = None,
        mean_only: bool | None = None,
        group_relative: bool | None = None,
    ) -> None:
        self._generator, self._tokenizer, self._group_size = generator, tokenizer, group_size
        self._hook = environment_hook(mean_only=mean_only, group_relative=group_relative)

    def __getattr__(self, name: str) -> Any:
        """Everything else that is public is the generator's."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._generator, name)

    async def generate(self, input_batch: Mapping[str, Any], *arguments: Any, **options: Any) -> dict[str, Any]:
        """Generate a batch and score it.

        Raises:
            InputError: the batch has no instance ids, or its trajectories are steps.
            MemstoreError: the batch cannot be scored.
        """
        output: dict[str, Any] = await self._generator.generate(input_batch, *arguments, **options)
        rows = self._rows(input_batch, output)
        evaluation = input_batch["batch_metadata"].training_phase == "eval"
        scored = await self._hook.score_async(rows, evaluation=evaluation, group_size=self._group_size)
        output["rewards"] = scored.values
        metrics = {f"memstore/{name}": value for name, value in scored.metrics.items()}
        output["rollout_metrics"] = {**(output.get("rollout_metrics") or {}), **metrics}
        return output

    def _rows(self, batch: Mapping[str, Any], output: Mapping[str, Any]) -> list[Row]:
        ids, metadata = batch.get("trajectory_ids"), batch.get("batch_metadata")
        if ids is None or metadata is None:
            raise InputError("the batch has no trajectory ids or no metadata, so its groups are unknown; update SkyRL")
        if len(output["response_ids"]) != len(ids) or output.get("is_last_step") is not None:
            raise InputError(
                "memstore scores whole trajectories, not their steps; set generator.step_wise_trajectories=false"
            )
        step = int(metadata.global_step)
        extras = batch.get("env_extras") or [None] * len(ids)
        columns = zip(ids, batch["prompts"], extras, output["response_ids"], output["loss_masks"], strict=True)
        return [
            Row(
                one.instance_id,
                labelled_query(prompt, None, extra),
                Rollout(response=self._response(tokens, mask), step=step),
            )
            for one, prompt, extra, tokens, mask in columns
        ]

    def _response(self, tokens: Sequence[int], mask: Sequence[int]) -> str:
        """What the policy wrote: the tokens that are trained on; all of them if none is, as for an overlong one."""
        written = [token for token, trained in zip(tokens, mask, strict=True) if trained] or list(tokens)
        return plain_output(self._tokenizer.decode(written, skip_special_tokens=False))
