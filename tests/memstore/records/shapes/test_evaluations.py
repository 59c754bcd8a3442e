"""Samples of evaluation tools and of batches, in the formats that they write."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError, RecordError
from memstore.records.rollouts import read_requests
from tests.memstore.records.shapes.reading import MATH, reasons, records, seen, write

SAYS = ("4 * 3\n#### 12", "4 + 3\n#### 7")
USER = {"role": "user", "content": "How many?"}
BOTH = [("How many?", "4 * 3", "12", "12", 1.0), ("How many?", "4 + 3", "7", "12", 0.0)]


def inspect_sample(epoch: int, text: str, grade: object = "C", **further: Any) -> dict[str, Any]:
    written = {"role": "assistant", "content": text, "source": "generate", "model": "mockllm/model"}
    output = {"model": "mockllm/model", "choices": [{"message": written, "stop_reason": "stop"}], "usage": {}}
    return {
        "id": "q1", "epoch": epoch, "input": "How many?", "target": "12", "output": output,
        "messages": [{"role": "system", "content": "Be brief."}, {**USER, "source": "input"}, written],
        "scores": {"match": {"value": grade, "answer": "12"}}, "metadata": {}, "store": {}, "events": [{"event": "x"}],
        "attachments": {}, "uuid": "u", **further,
    }  # fmt: skip


def inspect_samples() -> list[dict[str, Any]]:
    put_aside = inspect_sample(2, "attachment://a1", "I", attachments={"a1": SAYS[1]})
    return [inspect_sample(1, SAYS[0]), put_aside]


EVAL = {"task": "sums", "model": "mockllm/model", "run_id": "r"}


def test_an_inspect_log_as_json(tmp_path: Path) -> None:
    log = {"version": 2, "status": "success", "eval": EVAL, "plan": {}, "samples": inspect_samples()}
    path = tmp_path / "log.json"
    for indent in (None, 2):
        path.write_text(json.dumps(log, indent=indent))
        found = records(path)
        assert seen(found) == BOTH
        assert [(one.dataset, one.key, one.policy, one.sample_index) for one in found] == [
            ("sums", "q1", "mockllm/model", 0),
            ("sums", "q1", "mockllm/model", 1),
        ]


def test_a_sample_without_output_does_not_affect_the_others(tmp_path: Path) -> None:
    failed = inspect_sample(2, "", error={"message": "the server is gone", "traceback": ""})
    failed["output"]["choices"], failed["messages"] = [], [USER]
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"eval": EVAL, "samples": [inspect_samples()[0], failed]}))
    assert reasons(path) == ["the sample has no output (the server is gone)"]


def eval_log(path: Path, samples: list[dict[str, Any]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": EVAL, "plan": {}}))
        for sample in samples:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample, indent=1))
        archive.writestr("summaries.json", "[]")
    return path


def test_an_eval_log(tmp_path: Path) -> None:
    samples = inspect_samples() + [inspect_sample(epoch, SAYS[0]) for epoch in (10, 3)]
    found = records(eval_log(tmp_path / "2026_sums.eval", samples))
    assert seen(found) == [*BOTH, BOTH[0], BOTH[0]]
    assert [one.sample_index for one in found] == [0, 1, 2, 9]
    assert {one.dataset for one in found} == {"sums"}


def test_an_eval_log_without_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no samples"):
        records(eval_log(tmp_path / "a.eval", []))


def test_logs_that_inspect_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("inspect_ai")
    import tiktoken
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, get_model
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate

    class Words:
        def encode(self, text: str, **options: object) -> list[str]:
            return text.split()

        encode_ordinary = encode

    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: Words())  # which would be downloaded
    texts = ["ANSWER: 12", "We count. " * 40 + "ANSWER: 7"]  # the long one is put aside as an attachment
    for kind in ("eval", "json"):
        outputs = [ModelOutput.from_content("mockllm/model", text) for text in texts]
        model = get_model("mockllm/model", custom_outputs=outputs)
        task = Task(name="sums", dataset=[Sample("How many?", target="12", id="q1")], solver=generate(), scorer=match())
        eval(task, model=model, epochs=2, log_dir=str(tmp_path / kind), log_format=kind, display="none")
        (path,) = (tmp_path / kind).iterdir()
        assert [(one.query, one.answer, one.reward, one.dataset) for one in records(path)] == [
            ("How many?", "12", 1.0, "sums"),
            ("How many?", "7", 0.0, "sums"),
        ]


@pytest.mark.parametrize(
    ("scores", "reward"),
    [
        ({"a": {"value": "C"}}, 1.0),
        ({"a": {"value": "P"}}, 0.5),
        ({"a": {"value": "N"}}, 0.0),
        ({"a": {"value": 0.25}}, 0.25),
        ({"a": {"value": True}}, 1.0),
        ({"a": {"value": "C"}, "b": {"value": "I"}}, None),  # several: choose one with --reward-column
        ({"a": {"value": "C"}, "b": {"value": {"x": 1}}}, 1.0),
        (None, None),
    ],
)
def test_scores_of_inspect(tmp_path: Path, scores: object, reward: float | None) -> None:
    path = write(tmp_path / "a.jsonl", [inspect_sample(1, SAYS[0], scores=scores)])
    assert records(path)[0].reward == reward


def test_one_of_several_scores_is_chosen_by_its_name(tmp_path: Path) -> None:
    scores = {"match": {"value": "C"}, "model_graded": {"value": "I"}}
    path = write(tmp_path / "a.jsonl", [inspect_sample(1, SAYS[0], scores=scores)])
    assert records(path, replace(MATH, reward_column="model_graded"))[0].reward == 0.0


def test_the_options_of_a_choice_stand_in_the_query(tmp_path: Path) -> None:
    sample = inspect_sample(1, "ANSWER: B", choices=["3", "4"], input="Which is even?", target="B")
    sample["messages"][1]["content"] = "Which is even?\n\nA) 3\nB) 4"
    assert records(write(tmp_path / "a.jsonl", [sample]))[0].query == "Which is even?\n\nA) 3\nB) 4"


def lm_eval(text: str, match: float, **further: Any) -> dict[str, Any]:
    return {
        "doc_id": 3, "doc": {"question": "How many?", "answer": "... #### 12"}, "target": "... #### 12",
        "arguments": {"gen_args_0": {"arg_0": "How many?", "arg_1": {"until": ["Q:"], "do_sample": False}}},
        "resps": [[text]], "filtered_resps": ["12"], "filter": "strict-match", "metrics": ["exact_match"],
        "doc_hash": "d", "prompt_hash": "p", "target_hash": "t", "exact_match": match, **further,
    }  # fmt: skip


def test_lm_eval_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "samples_gsm8k_2026.jsonl", [lm_eval(SAYS[0], 1.0), lm_eval(SAYS[1], 0.0)])
    found = records(path)
    assert seen(found) == BOTH
    assert {(one.key, one.sample_index) for one in found} == {("3", 0)}


def test_lm_eval_repeats_and_chat_prompts(tmp_path: Path) -> None:
    chat = {"gen_args_0": {"arg_0": ['[{"role": "user", "content": "How many?"}]'], "arg_1": {}}}
    row = lm_eval("", 1.0, resps=[list(SAYS)], arguments=chat, metrics=["exact_match", "other"], other=0.5)
    found = records(write(tmp_path / "a.jsonl", [row]))
    assert seen(found) == [(*one[:4], None) for one in BOTH]
    assert [one.sample_index for one in found] == [0, 1]


def test_log_likelihoods_are_no_rollouts(tmp_path: Path) -> None:
    choices = {f"gen_args_{n}": {"arg_0": "Which?", "arg_1": f" {n}"} for n in range(2)}
    row = lm_eval("", 1.0, arguments=choices, resps=[[["-1.2", "False"]], [["-0.2", "True"]]])
    assert "log likelihoods of choices" in reasons(write(tmp_path / "a.jsonl", [row]))[0]


def test_lighteval_details(tmp_path: Path) -> None:
    rows = [
        {
            "doc": {"query": "How many?", "choices": ["12"], "gold_index": 0, "id": "5", "task_name": "gsm8k|0"},
            "metric": {"extractive_match": float(n == 0)},
            "model_response": {"input": "How many?", "text": ["#### " + "127"[2 * n :][: 2 - n]], "reasonings": ["4"]},
        }
        for n in range(2)
    ]
    rows[0]["model_response"]["text"] = ["#### 12"]
    rows[1]["model_response"]["text"] = ["#### 7"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "details_gsm8k.parquet")
    found = records(tmp_path / "details_gsm8k.parquet")
    assert seen(found) == [("How many?", "4", "12", "12", 1.0), ("How many?", "4", "7", "12", 0.0)]
    assert {(one.dataset, one.key) for one in found} == {("gsm8k|0", "5")}


def test_lighteval_samples_and_choices(tmp_path: Path) -> None:
    doc = {"query": "How many?", "choices": ["12"], "gold_index": [0], "id": "", "task_name": ""}
    response = {"input": "How many?", "text": list(SAYS), "reasonings": []}
    row = {"doc": doc, "metric": {"pass@k": 1.0}, "model_response": response}
    assert seen(records(write(tmp_path / "a.jsonl", [row]))) == [(*one[:4], None) for one in BOTH]
    response["text"] = []
    assert "log likelihoods" in reasons(write(tmp_path / "b.jsonl", [row]))[0]


def test_lighteval_details_before_0_10(tmp_path: Path) -> None:
    rows = [
        {
            "example": "How many?", "instruction": "", "full_prompt": "Q: How many?", "predictions": [text],
            "gold": ["12"], "metrics": {"em": float(n == 0)}, "choices": [], "gold_index": [0], "truncated": [],
        }
        for n, text in enumerate(SAYS)
    ]  # fmt: skip
    assert seen(records(write(tmp_path / "details.jsonl", rows))) == BOTH


def request(custom_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def answer(custom_id: str, body: dict[str, Any] | None, status: int = 200) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": f"b-{custom_id}", "custom_id": custom_id, "response": response, "error": None}


def test_the_output_of_a_batch_with_its_input(tmp_path: Path) -> None:
    choices = [{"index": n, "message": {"role": "assistant", "content": text}} for n, text in enumerate(SAYS)]
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": SAYS[0]}]}
    inputs = write(
        tmp_path / "input.jsonl",
        [request("a", {"model": "m", "messages": [USER]}), request("b", {"model": "m", "input": "How many?"})],
    )
    output = write(
        tmp_path / "output.jsonl",
        [answer("a", {"model": "m-1", "choices": choices}), answer("b", {"model": "m-1", "output": [message]})],
    )
    found = records(output, replace(MATH, requests=read_requests(inputs)))
    assert [one[:3] for one in seen(found)] == [one[:3] for one in (*BOTH, BOTH[0])]
    assert [(one.policy, one.key) for one in found] == [("m-1", "a"), ("m-1", "a"), ("m-1", "b")]


def test_a_batch_without_its_input_and_with_failed_requests(tmp_path: Path) -> None:
    rows = [answer("a", {"choices": []}), answer("b", {"error": {"message": "too long"}}, 400)]
    first, second = reasons(write(tmp_path / "output.jsonl", rows))
    assert "with the request 'a', as --requests FILE" in first
    assert second == "the request failed (too long)"
    with pytest.raises(InputError, match="output.jsonl:1 is not a request of a batch"):
        read_requests(tmp_path / "output.jsonl")


def test_a_sample_with_the_keys_and_not_the_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not its form"):
        records(write(tmp_path / "a.jsonl", [{"doc": {}, "resps": 3, "arguments": []}]))
