"""Fixtures for tests with the real vLLM: a model with random weights, a server, and an engine in this process.

These tests are skipped where vLLM is not installed; `make test-vllm` creates an environment that has it.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from memstore_rl.rollout.endpoint import EndpointEngine
from memstore_rl.rollout.engine import Engine
from memstore_rl.rollout.vllm_engine import VllmEngine

MODEL = "tiny"
CONTEXT = 256
READY_S = 900
OPTIONS = {"dtype": "float32", "enforce_eager": True, "max_model_len": CONTEXT, "max_num_seqs": 64}
"""In float32 the server and this process agree exactly. Eager: compiling so small a model is not worth it."""


class Server(NamedTuple):
    """vLLM's OpenAI-compatible server."""

    url: str
    model: str


@pytest.fixture(scope="session", autouse=True)
def vllm_environment() -> Iterator[None]:
    """Environment of vLLM: no hub, no usage reports, 1 GB of cache, errors only in the log."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here; make test-vllm creates an environment that has it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("VLLM_NO_USAGE_STATS", "1")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, vllm_environment: None) -> Path:
    """A model of random weights with a tokenizer and a chat template.

    The head size is 32, since vLLM's CPU attention does not support 16.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("model")
    bytewise = Tokenizer(models.BPE())
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|turn|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytewise.train_from_iterator(
        ["what is two and three ? it is five , so the answer is five"] * 4,
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token=special[0], pad_token=special[0])
    tokenizer.chat_template = (
        "{% for message in messages %}<|turn|>{{ message['role'] }}: {{ message['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant: {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def vllm_server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the tiny model, shared by all tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny_model)]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--dtype", "float32", "--max-model-len", str(CONTEXT), "--max-num-seqs", "64"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield Server(f"http://127.0.0.1:{port}/v1", MODEL)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            # Its engine runs in a separate process of the same group.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server responds."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:])
    pytest.fail(f"vLLM's server did not start ({process.poll()=}):\n{tail}")


@pytest.fixture(scope="session")
def loaded(tiny_model: Path) -> VllmEngine:
    """vLLM with the tiny model in this process, shared by all tests."""
    return VllmEngine.load(str(tiny_model), model=MODEL, options=OPTIONS, batch=24)


@pytest.fixture(params=["server", "in process"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine of the real vLLM: its server, or this process."""
    if request.param == "server":
        server: Server = request.getfixturevalue("vllm_server")
        return EndpointEngine(server.url, server.model)
    loaded: VllmEngine = request.getfixturevalue("loaded")
    return loaded
