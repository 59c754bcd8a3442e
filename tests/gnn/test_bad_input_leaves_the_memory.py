"""Bad input to training, scoring and explanations raises a one-line error and leaves the memory unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memstore.errors import MemstoreError, ModelError
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.conformance.graph_blocks import dump
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.evaluation.promote import promote_model
from memstore_gnn.explain.explain import explain_rollout
from memstore_gnn.models.network import RewardNetwork
from memstore_gnn.models.registry import model_folder
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.verbs import score_file, score_memory_rollouts, train_memory

QUERIES, LABELLED, ROLLOUTS = 12, 8, 3


def rollouts(reward: Callable[[int, int], float | None]) -> list[dict[str, Any]]:
    """Sums with the reward `reward(query, sample)`."""
    rows = []
    for number in range(QUERIES):
        for sample in range(ROLLOUTS):
            answer = str(number + 7 + (sample == 0 and number % 2))
            row = {"query": f"{number} + 7?", "dataset": "sums", "domain": "math", "policy": "p", "run": "r"}
            row |= {"thinking": f"try {sample}: {answer}", "answer": answer, "sample_index": sample}
            rows.append(row | {"reward": reward(number, sample)})
    return rows


def filled(folder: Path, reward: Callable[[int, int], float | None]) -> Memory:
    memory = Memory.open(folder / "memory", create=True, embedder=HashEmbedder())
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rollouts(reward)))
    memory.ingest([file])
    return memory


def refused(memory: Memory, work: Callable[[], object], message: str) -> None:
    """Assert that `work` raises a one-line error and leaves graph and models unchanged."""
    before, files = dump(memory.graph), sorted(memory.folder.rglob("models/**/*"))
    with pytest.raises(MemstoreError, match=message) as error:
        work()
    assert "\n" not in str(error.value)
    assert dump(memory.graph) == before
    assert sorted(memory.folder.rglob("models/**/*")) == files


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda query, sample: 1.0, "visible labels are right, and training needs both classes"),
        (lambda query, sample: 0.0, "visible labels are wrong, and training needs both classes"),
        (lambda query, sample: float(sample > 0) if query == 3 else None, "only one query is labelled"),
    ],
    ids=["all right", "all wrong", "one query"],
)
def test_labels_of_one_class_or_query(tmp_path: Path, reward: Callable[[int, int], float | None], message: str) -> None:
    with filled(tmp_path, reward) as memory:
        refused(memory, lambda: train_memory(memory, device="cpu"), message)


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """A memory with labels for two thirds of its queries, and a model."""
    folder = tmp_path_factory.mktemp("filled")
    with filled(folder, lambda q, s: float(not (s == 0 and q % 2)) if q < LABELLED else None) as memory:
        train_memory(memory, epochs=1, device="cpu")
        yield memory


VERBS: dict[str, Callable[[Memory], object]] = {
    "train": lambda memory: train_memory(memory, epochs=1, device="cpu"),
    "score": score_memory_rollouts,
    "score a file": lambda memory: score_file(memory, memory.folder.parent / "rows.jsonl"),
    "explain": lambda memory: explain_rollout(memory, first_rollout(memory), write=True),
}


def first_rollout(memory: Memory) -> str:
    return str(memory.snapshot().thinkings["id"][0].as_py())


def test_every_verb_works_on_the_unchanged_memory(memory: Memory) -> None:
    assert score_file(memory, memory.folder.parent / "rows.jsonl").scored == QUERIES * ROLLOUTS
    explained = explain_rollout(memory, first_rollout(memory))
    assert (explained.written, explained.group) == (None, ROLLOUTS)


@pytest.mark.parametrize("verb", VERBS)
def test_vector_that_is_not_finite(memory: Memory, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Memory.snapshot

    def broken(snapshot: Snapshot) -> Snapshot:
        x = snapshot.thinking_x.copy()
        x[:, 1] = np.nan
        return Snapshot(**{**vars(snapshot), "thinking_x": x})

    monkeypatch.setattr(Memory, "snapshot", lambda memory, *, texts=True: broken(whole(memory, texts=texts)))
    refused(memory, lambda: VERBS[verb](memory), "the vector of t-.* is not finite; run `memstore verify --repair`")


@pytest.mark.parametrize("verb", [name for name in VERBS if name != "train"])
@pytest.mark.parametrize("kind", ["weights", "truncated", "description", "origin", "no weights", "no origin"])
def test_corrupt_model(memory: Memory, verb: str, kind: str) -> None:
    folder = model_folder(memory)
    file = folder / {
        "description": "model.json",
        "origin": "origin.safetensors",
        "no origin": "origin.safetensors",
    }.get(kind, "model.safetensors")
    content = file.read_bytes()
    if kind in ("description", "truncated"):
        file.write_bytes(content[: len(content) // 2])
    elif kind.startswith("no "):
        file.unlink()
    else:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        if verb == "explain" and "origin" in kind:
            assert explain_rollout(memory, first_rollout(memory)).group == ROLLOUTS
        else:
            refused(memory, lambda: VERBS[verb](memory), "train or copy")
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("verb", [name for name in VERBS if name != "train"])
def test_model_of_another_embedder(memory: Memory, verb: str) -> None:
    file = model_folder(memory) / "model.json"
    content = file.read_text()
    described = json.loads(content)
    described["card"]["embedder"] = "another"
    file.write_text(json.dumps(described))
    try:
        refused(memory, lambda: VERBS[verb](memory), "the embedder 'another' and this one has .*train a model on this")
    finally:
        file.write_text(content)


@pytest.mark.parametrize("verb", VERBS)
def test_full_gpu(memory: Memory, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(RewardNetwork, "forward", full)
    monkeypatch.setattr(RewardModel, "predict", full)
    refused(memory, lambda: VERBS[verb](memory), "the GPU ran out of memory while .*--device cpu")


def test_missing_model(memory: Memory, tmp_path: Path) -> None:
    refused(memory, lambda: score_memory_rollouts(memory, model="m-none"), "has no reward model 'm-none'; it has m-")
    refused(memory, lambda: promote_model(memory, "m-none"), "has no reward model 'm-none'; it has m-")
    with filled(
        tmp_path, lambda query, sample: float(sample % 2)
    ) as untrained:  # without labels the prior would be used
        refused(
            untrained, lambda: score_memory_rollouts(untrained), "no reward model yet; train one with: memstore train"
        )
        refused(untrained, lambda: promote_model(untrained), "no reward model yet; train one with: memstore train")
    with Memory.open(tmp_path / "empty", create=True, embedder=HashEmbedder()) as empty:
        refused(
            empty, lambda: promote_model(empty), "is empty and has no reward model; add rollouts, with `memstore in"
        )


def test_unknown_device(memory: Memory) -> None:
    for verb in (train_memory, score_memory_rollouts):
        refused(memory, lambda verb=verb: verb(memory, device="cuda:99"), "torch has no device 'cuda:99' here; use cpu")


def test_failed_training_leaves_no_trace(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the model's files cannot be written."""

    def full(*_: Any) -> None:
        raise ModelError("no space")

    monkeypatch.setattr("memstore_gnn.verbs.train.save_model", full)
    refused(memory, lambda: train_memory(memory, seed=1, epochs=1, device="cpu"), "no space")
