"""Shapes of the samples that evaluation tools and batch interfaces write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from memstore.errors import RecordError
from memstore.records.shapes.shape import Found, RowValues, Shape, at, need, of_each, only_number, rollout
from memstore.records.shapes.trainers import response_messages

_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Inspect's grades: correct, incorrect, partially correct, no answer."""
_ATTACHMENT = "attachment://"
LIKELIHOODS = "the row has log likelihoods of choices and no text that a model wrote"


def _inspect_log(values: RowValues) -> Iterator[Found]:
    """A whole log as one document."""
    yield from of_each(values["samples"] or [], lambda sample: _inspect_sample({**sample, "eval": values["eval"]}))


def _inspect_sample(values: RowValues) -> Iterator[Found]:
    sample = _with_attachments(values, values.get("attachments") or {})
    messages, output = sample.get("messages") or [], sample["output"]
    first = next((number for number, message in enumerate(messages) if message.get("source") == "generate"), None)
    written = messages[first:] if first is not None else [at(output, "choices", 0, "message")]
    if written == [None]:
        error = at(sample, "error", "message")
        raise RecordError("the sample has no output" + (f" ({error!s:.200})" if error else ""))
    prompt = sample["input"]
    if sample.get("choices") and first:
        # The options stand in the message that the model was shown.
        prompt = [message for message in messages[:first] if message.get("role") == "user"][-1:] or prompt
    target = sample["target"]
    scores = {name: _grade(at(score, "value")) for name, score in (sample.get("scores") or {}).items()}
    numbers = {name: score for name, score in scores.items() if score is not None}
    yield rollout(
        prompt,
        written,
        gold=target if isinstance(target, str) else target[0] if len(target) == 1 else None,
        reward=only_number(numbers),
        query_id=sample["id"],
        dataset=at(sample, "eval", "task"),
        policy=at(output, "model") or at(sample, "eval", "model"),
        sample_index=sample["epoch"] - 1,
        finish_reason=at(output, "choices", 0, "stop_reason"),
        **{name: score for name, score in numbers.items() if name not in ("prompt", "completion", "reward", "gold")},
    )


def _with_attachments(value: Any, attachments: Mapping[str, str]) -> Any:
    """The value with the texts that Inspect stores aside put back; its events, which are not read, stay as they are."""
    if isinstance(value, str):
        return attachments.get(value.removeprefix(_ATTACHMENT), value) if value.startswith(_ATTACHMENT) else value
    if isinstance(value, list):
        return [_with_attachments(item, attachments) for item in value]
    if isinstance(value, Mapping):
        aside = ("events", "attachments", "store")
        return {key: item if key in aside else _with_attachments(item, attachments) for key, item in value.items()}
    return value


def _grade(value: object) -> float | None:
    if isinstance(value, str):
        return _GRADES.get(value)
    return float(value) if isinstance(value, bool | int | float) else None


def _is_inspect_sample(values: RowValues) -> bool:
    return isinstance(values["output"], Mapping) and "choices" in values["output"]


def _lm_eval(values: RowValues) -> Iterator[Found]:
    """lm-eval's `samples_*.jsonl`: the texts of one request, before the task's filter."""
    requests = values["arguments"]
    request = (list(requests.values()) if isinstance(requests, Mapping) else requests)[0]
    prompt, options = (request["arg_0"], request.get("arg_1")) if isinstance(request, Mapping) else request[:2]
    if len(values["resps"]) > 1 or isinstance(options, str):
        raise RecordError(LIKELIHOODS)
    names = values.get("metrics") or []
    texts = values["resps"][0]
    for index, text in enumerate(texts):
        yield rollout(
            _lm_eval_prompt(prompt),
            text,
            gold=values.get("target"),
            reward=only_number({name: values.get(name) for name in names or ["exact_match", "acc"]}),
            query_id=values.get("doc_id"),
            sample_index=index,
        )


def _lm_eval_prompt(prompt: object) -> object:
    """The prompt; messages as JSON, in a list of one, as lm-eval logs those of chat endpoints."""
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt.startswith('[{"role":'):
        return json.loads(prompt)
    return prompt


def _lighteval(values: RowValues) -> Iterator[Found]:
    """lighteval's details from 0.10 on."""
    doc, response = values["doc"], values["model_response"]
    texts = need(response["text"], LIKELIHOODS)
    indices = doc["gold_index"] if isinstance(doc["gold_index"], list) else [doc["gold_index"]]
    golds = [doc["choices"][index] for index in indices] if doc.get("choices") else []
    metrics = {name: score for name, score in values["metric"].items() if score is not None}
    for index, text in enumerate(texts):
        thought = at(response, "reasonings", index)
        yield rollout(
            doc["query"],
            [{"role": "assistant", "content": text, "reasoning_content": thought}],
            gold=golds[0] if len(golds) == 1 else None,
            reward=only_number(metrics) if len(texts) == 1 else None,
            query_id=doc.get("id") or None,
            dataset=doc.get("task_name") or None,
            sample_index=index,
            **{name: score for name, score in metrics.items() if isinstance(score, int | float)},
        )


def _lighteval_before(values: RowValues) -> Iterator[Found]:
    """lighteval's details before 0.10."""
    texts, golds = need(values["predictions"], LIKELIHOODS), values.get("gold") or []
    metrics = {name: score for name, score in (values["metrics"] or {}).items() if isinstance(score, int | float)}
    for index, text in enumerate(texts):
        yield rollout(
            values.get("example") or values["full_prompt"],
            text,
            gold=golds[0] if len(golds) == 1 else None,
            reward=only_number(metrics) if len(texts) == 1 else None,
            sample_index=index,
            **metrics,
        )


def _batch(values: RowValues) -> Iterator[Found]:
    """A line of an OpenAI batch's output, with the request of the same `custom_id` under `request`."""
    response, request = values["response"], values.get("request")
    body = at(response, "body")
    if body is None or at(response, "status_code") not in (200, None):
        reason = at(values, "error", "message") or at(body, "error", "message") or at(response, "status_code")
        raise RecordError(f"the request failed ({reason!s:.200})")
    if request is None:
        raise RecordError(
            "the output of a batch has responses and no prompts; pass the batch's input, with the request "
            f"{values['custom_id']!r}, as --requests FILE"
        )
    asked = at(request, "body") or {}
    prompt = next((asked[key] for key in ("messages", "input", "prompt") if asked.get(key)), None)
    common = {"policy": body.get("model"), "query_id": values["custom_id"]}
    if isinstance(body.get("output"), list):
        yield rollout(prompt, response_messages(body["output"]), **common)
        return

    def of_choice(choice: Mapping[str, Any]) -> Iterator[Found]:
        written = [choice["message"]] if "message" in choice else choice["text"]
        yield rollout(prompt, written, finish_reason=choice.get("finish_reason"), **common)

    yield from of_each(need(body.get("choices"), "the response has no choices"), of_choice)


EVALUATION_SHAPES = (
    Shape("Inspect log", frozenset(["eval", "samples"]), _inspect_log),
    Shape(
        "Inspect sample",
        frozenset(["id", "epoch", "input", "target", "output"]),
        _inspect_sample,
        frozenset(["messages", "choices", "scores", "attachments", "eval", "error"]),
        _is_inspect_sample,
    ),
    Shape(
        "lm-eval samples",
        frozenset(["doc", "resps", "arguments"]),
        _lm_eval,
        frozenset(["target", "doc_id", "metrics"]),
    ),
    Shape("lighteval details", frozenset(["doc", "model_response", "metric"]), _lighteval),
    Shape(
        "lighteval details before 0.10",
        frozenset(["full_prompt", "predictions", "metrics"]),
        _lighteval_before,
        frozenset(["example", "gold"]),
    ),
    Shape("OpenAI batch output", frozenset(["custom_id", "response"]), _batch, frozenset(["request", "error"])),
)
"""Shapes of evaluation tools and of OpenAI's batches."""
