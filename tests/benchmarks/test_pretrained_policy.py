"""The benchmark of a pretrained policy, on a tiny Llama with random weights: smallest run, sampler, loss."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

ROOT = Path(__file__).resolve().parents[2]
SMALL = "--problems 12 --held-out 4 --lessons 1 --steps 2 --every 1 --queries 4"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules of the benchmark importable during a test only."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("policy_learning_sampler", "shared_prompts"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def asked(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three prompts of different lengths, `count` times each, and their mask."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(2, 200, (3, 9), generator=generator)
    mask = (torch.arange(9) >= torch.tensor([[0], [4], [7]])).long()
    prompts = torch.where(mask == 1, prompts, 1)
    return prompts.repeat_interleave(count, 0), mask.repeat_interleave(count, 0)


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark in mode `verdict-4`."""
    command = [sys.executable, str(ROOT / "benchmarks" / "pretrained_policy.py"), "--folder", str(folder)]
    rest = ["--seeds", "7", "--modes", "verdict-4", *SMALL.split(), *options]
    return subprocess.run([*command, *rest], capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_smallest_run_warms_up_and_trains(tmp_path: Path, model: Path) -> None:
    ran = run(tmp_path, "--policy", str(model))
    assert ran.returncode == 0, ran.stderr[-2000:]
    result = json.loads((tmp_path / "seed-7" / "verdict-4.json").read_text())
    assert list(result["curve"]) == ["0", "1", "2"]
    assert result["rollouts"] == 64
    assert result["verified"] <= 8
    assert "| verdict-4 |" in ran.stdout
    assert "warm-up 1: loss" in (tmp_path / "seed-7" / "start.log").read_text()


@pytest.mark.slow
def test_run_without_a_model_says_what_to_set(tmp_path: Path) -> None:
    ran = run(tmp_path)
    assert ran.returncode != 0
    assert "set --policy to its folder" in ran.stderr


@pytest.mark.usefixtures("benchmark")
def test_greedy_responses_are_those_of_transformers(model: Path) -> None:
    from policy_learning_sampler import FastLlama

    ids, mask = asked(1)
    fast = FastLlama.from_pretrained(model).generate(ids, mask, max_new_tokens=12, do_sample=False)
    plain = LlamaForCausalLM.from_pretrained(model).generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False
    )
    assert fast.tolist() == plain.tolist()


def trainer_of(kind: Any, model: Path, folder: Path) -> Any:
    """A trainer of the tiny Llama that nothing is trained with."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model, padding_side="left")
    settings = GRPOConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, num_generations=4, per_device_train_batch_size=12,
        beta=0.0, report_to="none",
    )  # fmt: skip
    return kind(
        model=LlamaForCausalLM.from_pretrained(model),
        args=settings,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_list([{"prompt": "a"}]),
        processing_class=tokenizer,
    )


@pytest.mark.usefixtures("benchmark")
def test_loss_with_shared_prompts_has_the_value_and_gradient_of_trl(tmp_path: Path, model: Path) -> None:
    from shared_prompts import SharedPromptTrainer

    prompts, mask = asked(4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    said = torch.randint(2, 200, (12, 6), generator=torch.Generator().manual_seed(2))
    real = (torch.arange(6) < torch.tensor([1, 6, 3] * 4)[:, None]).long()
    inputs = {
        "prompt_ids": prompts[order],
        "prompt_mask": mask[order],
        "completion_ids": torch.where(real == 1, said, 1),
        "completion_mask": real,
        "advantages": torch.tensor([0.5, -0.5, 0.0, 0.25, 0.0, -1.0, 0.0, 0.0, 1.0, -0.25, 0.75, 0.0]),
        "num_items_in_batch": real.sum(),
    }
    gradients = []
    for kind in (GRPOTrainer, SharedPromptTrainer):
        trainer = trainer_of(kind, model, tmp_path)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        loss = trainer._compute_loss(trainer.model, inputs)
        loss.backward()
        gradients.append({name: weights.grad for name, weights in trainer.model.named_parameters()})
        gradients[-1]["loss"] = loss.detach()
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-6, msg=name)
    assert gradients[0]["model.layers.0.mlp.up_proj.weight"].abs().max() > 0
