"""Shapes of the rollouts that trainers write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memstore.errors import RecordError
from memstore.records.shapes.shape import Found, RowValues, Shape, at, need, of_each, rollout


def _episode(values: RowValues) -> Iterator[Found]:
    """prime-rl, verifiers v1: the traces of an episode, without those of judges and other agents that do not learn."""
    traces = [trace for trace in values["traces"] if at(trace, "agent", "trainable") is not False]
    if not traces:
        errors = [at(error, "message") for error in values.get("errors") or []]
        raise RecordError(f"the episode has no trace of the policy{f' ({errors[0]})' if errors else ''}")
    yield from of_each(traces, lambda trace: [_of_trace(trace, values)])


def _trace(values: RowValues) -> Iterator[Found]:
    yield _of_trace(values, values)


def _of_trace(trace: Mapping[str, Any], episode: RowValues) -> dict[str, Any]:
    """A trace: its last branch, cut before the first message that the model wrote."""
    nodes = need(trace.get("nodes"), "the trace has no messages")
    branch = _last_branch(nodes)
    first = next((number for number, node in enumerate(branch) if node.get("sampled")), None)
    if first is None:
        raise RecordError("the trace has no message that the model wrote")
    messages = [node["message"] for node in branch]
    task, calls = trace.get("task") or episode.get("task"), trace.get("calls") or []
    return rollout(
        messages[:first] or at(task, "data", "prompt"),
        messages[first:],
        gold=at(task, "data", "answer"),
        reward=_weighted(trace.get("rewards")),
        query_id=at(task, "key"),
        dataset=at(episode, "env", "id"),
        policy=at(calls, -1, "model"),
        finish_reason=at(calls, -1, "finish_reason"),
        step=at(episode, "run", "work", "step"),
        group=at(episode, "group", "id"),
        trace=trace.get("id"),
    )


def _last_branch(nodes: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The path to the last node without children. A node that is its own ancestor ends the path."""
    parents = {node.get("parent") for node in nodes}
    place: int | None = max((number for number in range(len(nodes)) if number not in parents), default=None)
    path: list[Mapping[str, Any]] = []
    while place is not None and 0 <= place < len(nodes) and len(path) < len(nodes):
        path.append(nodes[place])
        place = nodes[place].get("parent")
    return path[::-1]


def _weighted(rewards: object) -> float | None:
    """The sum of named rewards, each a number or a score with its weight; None if the trace was not scored."""
    if not isinstance(rewards, Mapping) or not rewards:
        return None
    given = [reward for reward in rewards.values() if reward is not None]
    return sum(
        float(reward["score"]) * float(reward.get("weight", 1.0)) if isinstance(reward, Mapping) else float(reward)
        for reward in given
    )


def _nemo_rl(values: RowValues) -> Iterator[Found]:
    """NeMo-RL: a batch of one. Training steps log the texts of the messages without roles, validations with them."""
    contents, rewards = values["content"], values["rewards"]
    if len(contents) != len(rewards):
        raise RecordError(f"the row has {len(contents)} rollouts and {len(rewards)} rewards; write it again")
    yield from of_each(zip(contents, rewards, strict=True), lambda part: [_of_content(*part)])


def _of_content(content: Any, reward: object) -> dict[str, Any]:
    if content and all(isinstance(message, Mapping) for message in content):
        first = next((at for at, message in enumerate(content) if message.get("role") == "assistant"), None)
        if first is None:
            raise RecordError("the row has no message of the assistant")
        return rollout(content[:first], content[first:], reward=reward)
    if isinstance(content, list) and len(content) == 2:
        return rollout(content[0], content[1], reward=reward)
    raise RecordError(
        f"the row has {len(content)} texts without roles, so that prompt and response cannot be told apart; "
        "choose them with --map, for example query=content.0.0,response=content.0.1"
    )


def _is_nemo_rl(values: RowValues) -> bool:
    content, rewards = values["content"], values["rewards"]
    return isinstance(content, list) and isinstance(rewards, list) and bool(content) and isinstance(content[0], list)


def _nemo_gym(values: RowValues) -> Iterator[Found]:
    """NeMo Gym: a request and a response of the Responses API with a reward."""
    params, response = values["responses_create_params"], values["response"]
    written = response_messages(at(response, "output"))
    yield rollout(at(params, "input"), written, reward=values.get("reward"), policy=at(response, "model"))


def response_messages(output: object) -> list[dict[str, Any]]:
    """The items of a Responses API output as messages."""
    messages: list[dict[str, Any]] = []
    for item in output if isinstance(output, list) else []:
        kind = at(item, "type")
        if kind == "reasoning":
            parts = at(item, "content") or at(item, "summary") or []
            text = "".join(str(at(part, "text") or "") for part in parts)
            messages.append({"role": "assistant", "content": "", "reasoning_content": text})
        elif kind == "message":
            messages.append({"role": at(item, "role") or "assistant", "content": at(item, "content")})
    if not messages:
        raise RecordError("the response has no message")
    return messages


def _areal(values: RowValues) -> Iterator[Found]:
    yield rollout(
        values["prompt"],
        values["completion"],
        reward=values["reward"],
        step=values["tail_version"],
        sample_index=values["sample_idx"],
    )


def _skyrl(values: RowValues) -> Iterator[Found]:
    """SkyRL's evaluations. The score is that of the rollout, or one a token, which add up to it."""
    score, extras = values["score"], values.get("env_extras")
    yield rollout(
        values["input_prompt"],
        values["output_response"],
        gold=at(extras, "reward_model", "ground_truth") or at(extras, "reward_spec", "ground_truth"),
        reward=sum(score) if isinstance(score, list) else score,
        dataset=values.get("data_source"),
        finish_reason=values.get("stop_reason"),
    )


def _art(values: RowValues) -> Iterator[Found]:
    yield _of_art(values["messages"], values["reward"], group=values["group_index"])


def _art_group(values: RowValues) -> Iterator[Found]:
    """ART before 0.5: a group of trajectories, whose choices are what the policy wrote.

    Trajectories that raised are left out of the group by ART.
    """
    need(values["trajectories"], "the group has no trajectory: all of them raised")
    yield from of_each(values["trajectories"], _art_trajectory)


def _art_trajectory(trajectory: Mapping[str, Any]) -> Iterator[Found]:
    messages = [
        {**item["message"], "trainable": True} if "finish_reason" in item else item
        for item in trajectory["messages_and_choices"]
    ]
    yield _of_art(messages, trajectory["reward"])


def _of_art(messages: list[Mapping[str, Any]], reward: object, **further: Any) -> dict[str, Any]:
    written = [bool(message.get("trainable")) for message in messages]
    if True not in written:
        written = [message.get("role") == "assistant" for message in messages]
    if True not in written:
        raise RecordError("the trajectory has no message of the policy")
    first = written.index(True)
    return rollout(messages[:first], messages[first:], reward=reward, **further)


def _agent_lightning(values: RowValues) -> Iterator[Found]:
    yield rollout(values["prompt"], values["response"], reward=values["reward"])


def _summaries(values: RowValues) -> Iterator[Found]:
    raise RecordError(
        "tinker-cookbook's rollout summaries hold rewards and lengths, but no texts; name the `*_logtree.json` files "
        "beside them"
    )


def _is_art_group(values: RowValues) -> bool:
    trajectories = values["trajectories"]
    return trajectories == [] or at(trajectories, 0, "messages_and_choices") is not None


EPISODE = Shape(
    "prime-rl, verifiers episode",
    frozenset(["traces", "task"]),
    _episode,
    frozenset(["env", "group", "run", "errors"]),
    lambda values: isinstance(values["traces"], list),
)
TRACE = Shape(
    "prime-rl, verifiers trace",
    frozenset(["nodes", "task"]),
    _trace,
    frozenset(["rewards", "calls", "agent", "env", "group", "run", "id"]),
    lambda values: isinstance(values["nodes"], list),
)
TRAINER_SHAPES = (
    EPISODE,
    TRACE,
    Shape("NeMo-RL", frozenset(["content", "rewards"]), _nemo_rl, accepts=_is_nemo_rl),
    Shape("NeMo Gym", frozenset(["responses_create_params", "response"]), _nemo_gym, frozenset(["reward"])),
    Shape("AReaL", frozenset(["prompt", "completion", "reward", "task_id", "sample_idx", "tail_version"]), _areal),
    Shape(
        "SkyRL",
        frozenset(["input_prompt", "output_response", "score"]),
        _skyrl,
        frozenset(["env_extras", "data_source", "stop_reason"]),
    ),
    Shape("ART", frozenset(["group_index", "messages", "reward", "group_metadata"]), _art),
    Shape("ART group", frozenset(["trajectories"]), _art_group, accepts=_is_art_group),
    Shape("agent-lightning", frozenset(["rollout_id", "reward", "prompt", "response"]), _agent_lightning),
    Shape("tinker-cookbook summary", frozenset(["total_reward", "traj_idx", "steps"]), _summaries),
)
"""Shapes of trainers, but for tinker-cookbook's transcripts (`logtree`), agent-lightning's events, verl and TRL."""
