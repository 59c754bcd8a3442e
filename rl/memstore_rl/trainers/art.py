"""Rewards of whole groups for ART, as `ruler_score_group` gives them.

    groups = await art.gather_trajectory_groups(
        (art.TrajectoryGroup(rollout(model, row) for _ in range(8)) for row in rows),
        after_each=memstore_rl.trainers.art.score_group,
    )

The query is what comes before the policy's first message, the completion is the rest. What is known of a query is in
the metadata of its trajectories or of the group: `gold`, `dataset`, `key`, `domain`, `split` and `remember`. A failure
is raised from `gather_trajectory_groups`, so that no training step begins.

The hook imports nothing of ART: it copies the group that it gets.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from memstore.errors import InputError
from memstore.text.chat import read_completion
from memstore_rl.rewards.reward import Rollout
from memstore_rl.trainers.hook import environment_hook
from memstore_rl.trainers.metrics import reward_metrics
from memstore_rl.trainers.rows import Row, labelled_query
from memstore_rl.trainers.verl.rows import TRAINING_SPLIT


async def score_group(
    group: Any, *, evaluation: bool = False, group_size: int | None = None, step: int | None = None
) -> Any:
    """Return a copy of a group with rewards.

    The metrics of each trajectory say where its reward came from (`memstore/ground_truth_share`, ...); its own reward
    becomes the metric `independent_reward`, as with `ruler_score_group`.

    Args:
        group: an `art.TrajectoryGroup`. Rollouts that raised are not in it, and make it short.
        evaluation: score by ground truth only, and record nothing. So is a group whose metadata have a `split` other
            than `train`.
        group_size: trajectories in a full group; None: those of the group and its exceptions, or the setting.
        step: recorded with the trajectories.

    Raises:
        InputError: a trajectory has additional histories, or no message of a user.
        MemstoreError: the group cannot be scored.
    """
    scored_group = copy.deepcopy(group)
    trajectories = scored_group.trajectories
    if not trajectories:
        raise InputError("no rollout of a group ended without an exception, so there is nothing to score")
    rows = [_row(trajectory, group.metadata, step) for trajectory in trajectories]
    splits = {str({**group.metadata, **one.metadata}.get("split") or TRAINING_SPLIT) for one in trajectories}
    hook = environment_hook()
    size = group_size or hook.settings.group_size or len(trajectories) + len(group.exceptions)
    scored = await hook.score_async(rows, evaluation=evaluation or splits != {TRAINING_SPLIT}, group_size=size)
    for trajectory, value, reward in zip(trajectories, scored.values, scored.rewards, strict=True):
        trajectory.metrics["independent_reward"] = trajectory.reward
        trajectory.metrics |= {f"memstore/{name}": number for name, number in reward_metrics(reward).items()}
        trajectory.reward = value
    return scored_group


def _row(trajectory: Any, of_group: Mapping[str, Any], step: int | None) -> Row:
    if trajectory.additional_histories:
        raise InputError("a trajectory has additional histories, which memstore cannot score; score one history")
    facts = {**of_group, **trajectory.metadata}
    asked = _first_choice(trajectory.messages_and_choices)
    messages = trajectory.messages()
    version = trajectory.initial_policy_version if step is None else step
    columns = {"data_source": facts.get("dataset"), "reward_model": {"ground_truth": facts.get("gold")}}
    query = labelled_query(messages[:asked], columns, {name: facts[name] for name in _FACTS if name in facts})
    return Row(0, query, Rollout(response=read_completion(messages[asked:]) or "", step=version))


_FACTS = ("key", "domain", "split", "remember")


def _first_choice(messages_and_choices: Sequence[Any]) -> int:
    """The position of the policy's first message; without one, all messages are the query."""
    found = [at for at, one in enumerate(messages_and_choices) if not isinstance(one, Mapping)]
    return found[0] if found else len(messages_and_choices)
