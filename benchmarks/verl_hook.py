"""Measures the overhead of the verl hook: verl's reward loop with our manager and with verl's naive manager.

    python benchmarks/verl_hook.py                     1,024 rollouts in groups of 8, two reward workers

Both get the same rollouts in the same run, in two rounds each, sent as by verl's agent loop: all at once, each to a
random worker. The naive manager uses a trivial function. Ours uses ground truth that compares integers, so that the
rest is the overhead of the hook: barrier, groups, batches. The figures are seconds from the first call to the last
reward.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

GROUP = 8
MANAGER = [
    "reward.reward_manager.source=importlib",
    "reward.reward_manager.module.path=pkg://memstore_rl.trainers.verl.manager",
    "reward.reward_manager.name=GroupRewardManager",
    "+memstore.mode=oracle",
]


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> float:
    """Trivial reward function; verl's naive manager loads it from this file."""
    return float(ground_truth in solution_str)


def make_tokenizer(folder: Path) -> None:
    """Save a byte-level tokenizer, which verl's workers load."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokens = Tokenizer(models.BPE(unk_token=None))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokens.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=["<pad>", "<end>"]))
    PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)


def make_rollouts(folder: Path, count: int, round_number: int) -> list[Any]:
    """Create rollouts as verl's agent loop sends them: 200 words each, in groups of GROUP."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from transformers import AutoTokenizer
    from verl import DataProto

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def one(value: object) -> Any:
        array = np.empty(1, dtype=object)
        array[0] = value
        return array

    rollouts = []
    for number in range(count):
        response = " ".join(["so"] * 200) + f" \\boxed{{{number % 3}}}"
        tokens = torch.tensor([[*tokenizer.encode(response), tokenizer.eos_token_id]])
        mask = torch.ones(1, 8 + tokens.shape[1], dtype=torch.long)
        row = {
            "uid": f"{round_number}-{number // GROUP}",
            "data_source": "numbers",
            "raw_prompt": [{"role": "user", "content": f"which number is {number // GROUP} ?"}],
            "reward_model": {"style": "rule", "ground_truth": "1"},
            "extra_info": {"split": "train", "index": number // GROUP, "key": "", "domain": "math"},
        }
        prompts = torch.ones(1, 8, dtype=torch.long)
        tensors = TensorDict({"prompts": prompts, "responses": tokens, "attention_mask": mask}, batch_size=1)
        rollouts.append(DataProto(batch=tensors, non_tensor_batch={name: one(value) for name, value in row.items()}))
    random.Random(round_number).shuffle(rollouts)
    return rollouts


def seconds(loop: Any, rollouts: list[Any]) -> float:
    """Return the seconds from the first call to the last reward."""
    import ray

    started = time.perf_counter()
    scored = ray.get([random.choice(loop.reward_loop_worker_handles).compute_score.remote(item) for item in rollouts])
    spent = time.perf_counter() - started
    assert {reply["reward_score"] for reply in scored} == {0.0, 1.0}
    return spent


def reward_loop(name: str, folder: Path) -> Any:
    """Create verl's reward loop with its own manager or with ours."""
    from verl.experimental.reward_loop import RewardLoopManager

    from memstore_rl.trainers.verl.check import compose

    own = {
        "naive": [
            f"reward.custom_reward_function.path={Path(__file__).resolve()}",
            "reward.custom_reward_function.name=compute_score",
        ],
        "memstore": MANAGER,
    }
    common = [
        f"actor_rollout_ref.model.path={folder}",
        f"actor_rollout_ref.rollout.n={GROUP}",
        "actor_rollout_ref.rollout.name=vllm",
        "reward.num_workers=2",
    ]
    return RewardLoopManager(compose([*common, *own[name]]))


def timed(name: str, folder: Path, rollouts: int, turns: int) -> list[float]:
    """Return the seconds of each repetition except the first, in which the workers import their modules."""
    import ray

    loop = reward_loop(name, folder)
    spent = [seconds(loop, make_rollouts(folder, rollouts, round_number)) for round_number in range(turns + 1)]
    for worker in loop.reward_loop_workers:  # verl names its workers, so two loops cannot coexist
        ray.kill(worker)
    return spent[1:]


def main() -> None:
    """Time both managers alternately and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=5, help="repetitions in each of two rounds")
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=16, num_gpus=0, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": quiet})
    try:
        with tempfile.TemporaryDirectory() as folder:
            make_tokenizer(Path(folder))
            spent: dict[str, list[float]] = {"naive": [], "memstore": []}
            for name in ("naive", "memstore", "naive", "memstore"):
                spent[name] += timed(name, Path(folder), options.rollouts, options.turns)
    finally:
        ray.shutdown()
    found = {name: round(statistics.median(times), 3) for name, times in spent.items()}
    each = 1e3 * (found["memstore"] - found["naive"]) / options.rollouts
    print(json.dumps({"rollouts": options.rollouts, "seconds": found, "overhead_ms_a_rollout": round(each, 3)}))


if __name__ == "__main__":
    main()
