"""What a pretrained policy learns from rewards of a memory: GRPO on one-step problems, one training a seed and mode.

    python benchmarks/pretrained_policy.py --folder F --policy MODEL [--seeds 1] [--modes oracle budget memory ...]

`MODEL` is the folder of a small pretrained Llama with its tokenizer; the table is of SmolLM2-135M-Instruct. A short
warm-up on right demonstrations shows it the form of an answer. Its mistakes are its own: it misreads phrases, and it
miscalculates. Then it is trained as in benchmarks/policy_learning.py, in these modes:

    oracle      ground truth for every problem
    budget      ground truth for 20 % of the problems, chosen from the start policy's rollouts; trains on these only
    memory      the same labels; residual reward for the other problems; half of each batch labelled
    verdict-4   no labels; mode verdict with 4 verifier calls a step (the oracle has 64)
    verdict-12  the same with 12

A figure is the greedy accuracy on held-out problems at the last step. The command can be repeated: finished trainings
are kept in `F/seed-SEED/MODE.json`, an interrupted one begins again.
"""

from __future__ import annotations

from policy_learning import main
from pretrained_policy_study import PretrainedOptions, PretrainedStudy

if __name__ == "__main__":
    main(__doc__, PretrainedStudy, PretrainedOptions)
