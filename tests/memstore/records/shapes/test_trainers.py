"""Rollouts of trainers, in the formats that they write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import RecordError
from tests.memstore.records.shapes.reading import reasons, records, seen, write

USER = {"role": "user", "content": "How many?"}
BOTH = [("How many?", "4 * 3", "12", "12", 1.0), ("How many?", "4 + 3", "7", "12", 0.0)]
UNLABELLED = [(*row[:3], None, row[4]) for row in BOTH]
SAYS = ("4 * 3\n#### 12", "4 + 3\n#### 7")


def node(parent: int | None, role: str, content: str, sampled: bool = False) -> dict[str, Any]:
    given = {} if parent is None else {"parent": parent}  # prime-rl leaves out what is None
    message = {"role": role, "content": content}
    return {**given, "message": message, "sampled": sampled, "token_ids": [1, 2], "mask": [], "logprobs": []}


def trace(text: str, reward: float, trainable: bool = True) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "id": "t",
        "task": {"type": "SumTask", "data": {"prompt": "How many?", "answer": "12"}, "key": "sum-1"},
        "agent": {"name": "agent", "trainable": trainable, "config": {}},
        "nodes": [node(None, "system", "Be brief."), node(0, "user", "How many?"), node(1, "assistant", text, True)],
        "calls": [{"node": 2, "model": "qwen", "finish_reason": "stop"}],
        "rewards": {"right": {"score": reward, "weight": 0.8}, "short": {"score": reward, "weight": 0.2}},
        "metrics": {"length": 12.0},
        "is_completed": True,
        "ok": True,
    }


def episode(traces: list[dict[str, Any]], **further: Any) -> dict[str, Any]:
    return {
        "id": "e",
        "env": {"id": "sums", "name": "sums"},
        "task": {"type": "SumTask", "data": {"prompt": "How many?", "answer": "12"}},
        "group": {"id": "g0"},
        "run": {"type": "train", "id": "r", "work": {"type": "train", "step": 42}},
        "ok": True,
        "errors": [],
        "traces": traces,
        **further,
    }


def test_prime_rl_episodes_without_judges(tmp_path: Path) -> None:
    rows = [episode([trace(SAYS[0], 1.0), trace("Well done.", 1.0, trainable=False)]), episode([trace(SAYS[1], 0.0)])]
    found = records(write(tmp_path / "traces.jsonl", rows))
    assert seen(found) == BOTH
    assert [(one.step, one.dataset, one.key, one.policy, one.finish_reason) for one in found] == [
        (42, "sums", "sum-1", "qwen", "stop")
    ] * 2
    assert json.loads(found[0].metadata or "{}") == {
        "group": "g0",
        "id": "e",
        "ok": True,
        "system": "Be brief.",
        "trace": "t",
    }


def test_prime_rl_traces_one_a_line_also_in_zstd(tmp_path: Path) -> None:
    path = write(tmp_path / "traces.jsonl", [trace(SAYS[0], 1.0), trace(SAYS[1], 0.0)])
    assert seen(records(path)) == BOTH
    packed = tmp_path / "traces.jsonl.zst"
    packed.write_bytes(pa.compress(path.read_bytes(), "zstd", asbytes=True))
    assert seen(records(packed)) == BOTH


def test_a_trace_with_branches_and_tools_is_its_last_branch(tmp_path: Path) -> None:
    long = trace(SAYS[1], 1.0)
    long["nodes"] += [
        node(1, "assistant", "Let me look.", True), node(3, "tool", "12"), node(4, "assistant", SAYS[0], True)
    ]  # fmt: skip
    ((query, thinking, answer, _, _),) = seen(records(write(tmp_path / "a.jsonl", [long])))
    assert (query, answer) == ("How many?", "12")
    assert thinking.startswith("Let me look.")


def test_traces_without_a_score_or_a_message_of_the_policy(tmp_path: Path) -> None:
    unscored = trace(SAYS[0], 1.0)
    del unscored["rewards"]
    assert records(write(tmp_path / "a.jsonl", [unscored]))[0].reward is None
    silent = trace(SAYS[0], 1.0)
    silent["nodes"].pop()
    failed = episode([], errors=[{"type": "Timeout", "message": "the sandbox did not answer"}])
    assert reasons(write(tmp_path / "b.jsonl", [silent, failed, episode([silent, trace(SAYS[0], 1.0)])])) == [
        "the trace has no message that the model wrote",
        "the episode has no trace of the policy (the sandbox did not answer)",
        "the trace has no message that the model wrote",
    ]


def nemo(content: list[Any], reward: float) -> dict[str, Any]:
    return {"content": [content], "rewards": [reward], "input_lengths": [9], "token_ids": [[1, 2]], "idx": 0}


def test_nemo_rl_training_and_validation(tmp_path: Path) -> None:
    training = [nemo(["user\nHow many?\nassistant\n", text], float(n == 0)) for n, text in enumerate(SAYS)]
    assert seen(records(write(tmp_path / "train_data_step1.jsonl", training))) == UNLABELLED
    validation = [
        {"content": [[USER, {"role": "assistant", "content": text}]], "rewards": [float(n == 0)], "idx": n}
        for n, text in enumerate(SAYS)
    ]
    assert seen(records(write(tmp_path / "val_data_step1.jsonl", validation))) == UNLABELLED
    (reason,) = reasons(write(tmp_path / "a.jsonl", [nemo(["a", "b", "c"], 1.0)]))
    assert "3 texts without roles" in reason
    assert "--map" in reason


def test_nemo_gym(tmp_path: Path) -> None:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "4 * 3"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "#### 12"}]},
    ]
    row = {"responses_create_params": {"input": [USER]}, "response": {"model": "m", "output": output}, "reward": 1.0}
    (found,) = records(write(tmp_path / "a.jsonl", [row]))
    assert seen([found]) == UNLABELLED[:1]
    assert found.policy == "m"


def test_areal(tmp_path: Path) -> None:
    rows = [
        {
            "task_id": 7, "sample_idx": n, "seqlen": 9, "prompt_len": 5, "head_version": 2, "tail_version": 3,
            "reward": float(n == 0), "completion": text + "<|im_end|>",
            "prompt": "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n",
        }
        for n, text in enumerate(SAYS)
    ]  # fmt: skip
    found = records(write(tmp_path / "7.jsonl", rows))
    assert seen(found) == UNLABELLED
    assert [(one.step, one.sample_index) for one in found] == [(3, 0), (3, 1)]


def test_skyrl_with_scores_of_tokens(tmp_path: Path) -> None:
    rows = [
        {
            "input_prompt": "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n", "output_response": text,
            "score": [0.0, 0.0, float(n == 0)] if n else float(n == 0), "stop_reason": "stop", "env_class": "gsm8k",
            "env_extras": {"reward_model": {"ground_truth": "12", "method": "rule"}}, "data_source": "openai/gsm8k",
        }
        for n, text in enumerate(SAYS)
    ]  # fmt: skip
    found = records(write(tmp_path / "openai_gsm8k.jsonl", rows))
    assert seen(found) == BOTH
    assert {(one.dataset, one.finish_reason) for one in found} == {("openai/gsm8k", "stop")}


def art_message(role: str, content: str | None, trainable: bool = False) -> dict[str, Any]:
    return {"role": role, "content": content, "tool_calls": None, "tool_call_id": None, "trainable": trainable}


def test_art_parquet(tmp_path: Path) -> None:
    rows = [
        {
            "group_index": 0, "group_metadata": None, "group_metrics": None, "group_logs": None,
            "reward": float(n == 0), "metrics": '{"turns": 1}', "metadata": '{"scenario": "s"}', "tools": None,
            "logs": None, "messages": [art_message("user", "How many?"), art_message("assistant", text, True)],
        }
        for n, text in enumerate(SAYS)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "0001.parquet", compression="zstd")
    found = records(tmp_path / "0001.parquet")
    assert seen(found) == UNLABELLED
    assert json.loads(found[0].metadata or "{}")["metadata"] == '{"scenario": "s"}'


def test_art_groups_of_jsonl(tmp_path: Path) -> None:
    choice = {"finish_reason": "stop", "index": 0}
    trajectories = [
        {
            "reward": float(n == 0), "metrics": {}, "metadata": {}, "tools": None, "additional_histories": [],
            "messages_and_choices": [USER, {**choice, "message": {"role": "assistant", "content": text}}], "logs": [],
        }
        for n, text in enumerate(SAYS)
    ]  # fmt: skip
    assert seen(records(write(tmp_path / "0001.jsonl", [{"trajectories": trajectories}]))) == UNLABELLED


def test_agent_lightning_trajectories(tmp_path: Path) -> None:
    rows = [
        {"rollout_id": f"ro-{n}", "reward": float(n == 0), "prompt": "user\nHow many?\nassistant\n", "response": text}
        for n, text in enumerate(SAYS)
    ]
    assert seen(records(write(tmp_path / "train_trajectories.jsonl", rows))) == UNLABELLED


def test_tinker_summaries_are_refused_with_the_file_to_name(tmp_path: Path) -> None:
    row = {"schema_version": 1, "traj_idx": 0, "total_reward": 1.0, "steps": [], "tags": []}
    with pytest.raises(RecordError, match="_logtree.json"):
        records(write(tmp_path / "train_rollout_summaries.jsonl", [row]))


def element(tag: str, *children: Any, **further: Any) -> dict[str, Any]:
    return {"tag": tag, "attrs": {}, "children": list(children), **further}


def conversation(title: str, role: str, text: str) -> dict[str, Any]:
    data = {"type": "conversation", "messages": [{"role": role, "content": text}]}
    return element("section", element("h3", title), element("div", element("div", data=data)))


def attempt(text: str, correct: bool) -> dict[str, Any]:
    cells = {"reference_answer": "12", "format_valid": "True", "correct": str(correct), "reward": "1.000"}
    header = element("thead", element("tr", element("th", "key"), element("th", "value")))
    body = element("tbody", *(element("tr", element("td", key), element("td", cell)) for key, cell in cells.items()))
    reward = element("section", element("h3", "Reward"), element("div", element("table", header, body)))
    asked = conversation("Prompt", "user", "How many?")
    return element("div", asked, conversation("Policy Response", "assistant", text), reward)


def test_tinker_transcripts(tmp_path: Path) -> None:
    group = element("section", element("h2", "Group Rollout"), *(attempt(text, n == 0) for n, text in enumerate(SAYS)))
    log = {"title": "RL", "started_at": "2026-08-01", "path": None, "root": element("body", group)}
    path = tmp_path / "train_logtree.json"
    path.write_text(json.dumps(log, indent=2))
    assert seen(records(path)) == BOTH
    path.write_text(json.dumps({**log, "root": element("body")}, indent=2))
    assert "no attempt with the headings" in reasons(path)[0]


def test_a_row_with_the_keys_and_not_the_form_is_refused(tmp_path: Path) -> None:
    (reason,) = reasons(write(tmp_path / "a.jsonl", [{"nodes": [{"sampled": True}], "task": {}, "rewards": {}}]))
    assert "the keys of prime-rl, verifiers trace, but not its form (KeyError: 'message')" in reason
    assert "--map" in reason
