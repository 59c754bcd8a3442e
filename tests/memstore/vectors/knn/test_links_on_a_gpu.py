"""Links whose products a GPU computes are those of the CPU, bit for bit; here on a stand-in for the device."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.pipeline.ingest import IngestOptions
from memstore.testing.doubles.device import second_device
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.types import FloatMatrix
from memstore.vectors.knn import LinkSettings, Neighbours, blocked, link_all, link_new

HOW = LinkSettings(k=3)


def vectors(count: int = 120) -> FloatMatrix:
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.standard_normal((count // 6, 16)), 6, axis=0)
    made = (rng.standard_normal((count, 16)) + 2 * centres).astype(np.float32)
    made[7] = made[3]
    return np.ascontiguousarray(made / np.linalg.norm(made, axis=1, keepdims=True))


def assert_same(got: Neighbours, wanted: Neighbours) -> None:
    np.testing.assert_array_equal(got.index, wanted.index)
    np.testing.assert_array_equal(got.score, wanted.score)


def test_lists_of_all_nodes_and_of_new_nodes_equal_those_of_the_cpu() -> None:
    x, group = vectors(), np.repeat(np.arange(40), 3)
    is_new = np.arange(len(x)) % 5 == 0
    among_old = link_all(x[~is_new], group[~is_new], HOW)
    old = Neighbours.none(len(x), HOW.k)
    place = np.flatnonzero(~is_new)
    old.index[~is_new] = np.where(among_old.index >= 0, place[among_old.index], -1)
    old.score[~is_new] = among_old.score
    wanted = link_all(x, group, HOW)
    with second_device() as device:
        assert_same(link_all(x, group, HOW, device=device), wanted)
        assert_same(link_new(x, group, is_new, old, HOW, device=device)[0], wanted)


def test_products_are_computed_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = set()
    scores = blocked.FastVectors.scores

    def noted(self: blocked.FastVectors, *arguments: torch.Tensor) -> torch.Tensor:
        made = scores(self, *arguments)
        devices.add((made.device.type, made.dtype))
        return made

    monkeypatch.setattr(blocked.FastVectors, "scores", noted)
    blocked.fast_dtype(16, "cpu")
    with second_device() as device:
        blocked.fast_dtype(16, device)
        devices.clear()
        link_all(vectors(), None, HOW, device=device)
    assert devices == {("meta", torch.bfloat16)}


def test_a_memory_is_linked_on_the_device_of_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSTORE_DEVICE", "cuda:99")
    row = {"dataset": "d", "domain": "math", "thinking": "so", "answer": "4", "policy": "p"}
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder(16)) as memory:
        rows = [{**row, "query": f"What is {number}?", "query_id": str(number)} for number in range(3)]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        memory.ingest([tmp_path / "rows.jsonl"], IngestOptions(link=False))
        with pytest.raises(InputError, match="torch has no device 'cuda:99' here; use cpu"):
            memory.link()


def test_a_full_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(blocked, "_search", full)
    with pytest.raises(InputError, match="out of memory while linking 120 nodes; free some of it, or set"):
        link_all(vectors(), None, HOW)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_lists_of_a_real_gpu_equal_those_of_the_cpu() -> None:
    x = vectors(6_000)
    assert_same(link_all(x, None, HOW, device="cuda"), link_all(x, None, HOW))
