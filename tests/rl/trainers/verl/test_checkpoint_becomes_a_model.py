"""First half of docs/checkpoints.md: verl's merger turns a checkpoint of verl into a model.

Two CPU processes shard a policy as verl does (FSDP2, gloo), train it for two steps and save it with verl's checkpoint
manager; then `python -m verl.model_merger` runs as a user would run it. The processes meet in a file, without a port.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

RANKS = 2
TIMEOUT_S = 360
TRAIN = """
import datetime, sys, torch, torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.utils.fsdp_utils import apply_fsdp2

policy, folder, meeting, rank, ranks, timeout_s = sys.argv[1:]
dist.init_process_group(
    "gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=int(ranks),
    timeout=datetime.timedelta(seconds=int(timeout_s)),
)
model = AutoModelForCausalLM.from_pretrained(policy)
apply_fsdp2(model, {"mesh": init_device_mesh("cpu", (int(ranks),), mesh_dim_names=("fsdp",))}, {})
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
tokens = torch.arange(12).reshape(2, 6) + 3
for _ in range(2):
    optimizer.zero_grad()
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
tokenizer = AutoTokenizer.from_pretrained(policy)
FSDPCheckpointManager(model, optimizer, schedule, tokenizer).save_checkpoint(f"{folder}/actor", global_step=2)
whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
if rank == "0":
    torch.save(whole, f"{folder}/whole.pt")
dist.destroy_process_group()
"""


def run_all(commands: list[list[Any]]) -> None:
    """Run programs in parallel; kill all of them in the end."""
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for words in commands
    ]
    try:
        for process in started:
            output, _ = process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == 0, output
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def step_folder(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`global_step_2` of a training, with the unsharded weights next to it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "global_step_2"
    folder.mkdir()
    shared = [tiny_policy, folder, folder / "meeting"]
    run_all([["-c", TRAIN, *shared, rank, RANKS, TIMEOUT_S] for rank in range(RANKS)])
    return folder


def test_merged_checkpoint_is_the_trained_model(step_folder: Path, tiny_policy: Path, tmp_path: Path) -> None:
    actor, merged = step_folder / "actor", tmp_path / "merged"
    assert json.loads((actor / "fsdp_config.json").read_text()) == {"FSDP_version": 2, "world_size": RANKS}
    names = {path.name for path in actor.iterdir()}
    assert {f"model_world_size_{RANKS}_rank_{rank}.pt" for rank in range(RANKS)} <= names
    assert not list((actor / "huggingface").glob("*.safetensors")), "the checkpoint must be sharded"

    words = ["--backend", "fsdp", "--local_dir", actor, "--target_dir", merged]
    run_all([["-m", "verl.model_merger", "merge", *words]])

    whole = torch.load(step_folder / "whole.pt")
    weights, before = load_file(merged / "model.safetensors"), load_file(tiny_policy / "model.safetensors")
    assert set(weights) == set(before)
    assert all(torch.equal(value, whole[name].bfloat16()) for name, value in weights.items())
    assert any(not torch.equal(value, before[name].bfloat16()) for name, value in weights.items())
    template = AutoTokenizer.from_pretrained(merged).chat_template
    assert template == AutoTokenizer.from_pretrained(tiny_policy).chat_template

    model = AutoModelForCausalLM.from_pretrained(merged)
    assert model.dtype == torch.bfloat16
    answers = model.generate(torch.tensor([[3, 4, 5]]), do_sample=False, max_new_tokens=4)
    assert answers.shape[1] > 3
