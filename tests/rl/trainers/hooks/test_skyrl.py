"""What only the hook of SkyRL does: tokens and masks, the phase, and trajectories that it cannot score."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl.trainers.conformance.drivers.skyrl import RecordedBatchMetadata, RecordedTrajectoryID
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.skyrl import GroupRewardGenerator

TOKENIZER = SimpleNamespace(decode=lambda tokens, skip_special_tokens: "".join(map(chr, tokens)))
EXTRAS = {"data_source": "sums", "reward_model": {"ground_truth": "5"}, "extra_info": {"split": "train"}}
BATCH: dict[str, Any] = {
    "prompts": [[{"role": "user", "content": "what is 2 + 3 ?"}]] * 2,
    "env_extras": [{"data_source": "sums", "reward_model": {"ground_truth": "5"}, "extra_info": {"split": "train"}}]
    * 2,
    "trajectory_ids": [RecordedTrajectoryID("0", 0), RecordedTrajectoryID("0", 1)],
    "batch_metadata": RecordedBatchMetadata(12, "train"),
}


class Generator:
    """Gives two responses, with a tool's output that is not trained on."""

    name = "own"

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    async def generate(self, input_batch: Any, disable_tqdm: bool = False) -> dict[str, Any]:
        tokens = [list(map(ord, "\\boxed{5}TOOL")), list(map(ord, "\\boxed{6}"))]
        output: dict[str, Any] = {
            "response_ids": tokens,
            "loss_masks": [[1] * 9 + [0] * 4, [0] * 9],
            "rewards": [[0.0], [0.0]],
            "rollout_metrics": {"generate/tokens": 3.0, "silent": disable_tqdm},
        }
        return {**output, **self.changes}


def test_rewards_and_metrics_are_replaced(service: NotingService) -> None:
    generator = GroupRewardGenerator(Generator(), TOKENIZER, group_size=2)
    output = asyncio.run(generator.generate(BATCH, disable_tqdm=True))
    assert output["rewards"] == [1.0, 0.0]
    assert output["rollout_metrics"]["memstore/ground_truth_share"] == 1.0
    assert (output["rollout_metrics"]["generate/tokens"], output["rollout_metrics"]["silent"]) == (3.0, True)
    assert generator.name == "own"
    [one] = service.noted
    assert [rollout.response for rollout in one.group.rollouts] == ["\\boxed{5}", "\\boxed{6}"]
    assert {rollout.step for rollout in one.group.rollouts} == {12}
    assert (one.group.query.dataset, one.group.expected) == ("sums", 2)


def test_phase_tells_an_evaluation(service: NotingService) -> None:
    batch = {**BATCH, "batch_metadata": RecordedBatchMetadata(12, "eval")}
    asyncio.run(GroupRewardGenerator(Generator(rollout_metrics=None), TOKENIZER, group_size=2).generate(batch))
    assert [(one.record, one.group.mode) for one in service.noted] == [(False, "oracle")]


@pytest.mark.parametrize(
    ("batch", "output", "message"),
    [
        ({**BATCH, "trajectory_ids": None}, {}, "the batch has no trajectory ids or no metadata"),
        ({**BATCH, "batch_metadata": None}, {}, "the batch has no trajectory ids or no metadata"),
        (BATCH, {"is_last_step": [True, True]}, "memstore scores whole trajectories, not their steps"),
        (BATCH, {"response_ids": [[0]], "loss_masks": [[1]]}, "memstore scores whole trajectories, not their steps"),
    ],
)
def test_what_has_no_groups_is_refused(
    batch: dict[str, Any], output: dict[str, Any], message: str, service: NotingService
) -> None:
    with pytest.raises(InputError, match=message):
        asyncio.run(GroupRewardGenerator(Generator(**output), TOKENIZER).generate(batch))
    assert service.noted == []
