"""What every engine asks alike: the turns of a question, the seed of a sample, and the key that names it for good.

A sample is one of the n answers of a question. Its key is made of all that it was drawn with: the query's identity in
a memory, how it was put, model, sampling, run, step and index. A sample whose key is in a file was drawn; one that is
not, is still wanted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.engine import Sampling

_SEEDS = 2**31 - 2**20
"""Where a question's seeds begin at most: that of every sample is a positive number of 32 bits, as servers want it."""


def messages(question: Question) -> list[dict[str, str]]:
    """The turns that a chat model is sent."""
    turns = [{"role": "system", "content": question.system}] if question.system else []
    return [*turns, {"role": "user", "content": question.prompt or question.text}]


def prompt(question: Question) -> str:
    """The text that is completed where there is no chat template."""
    asked = question.prompt or question.text
    return f"{question.system}\n\n{asked}" if question.system else asked


def sample_seed(seed: int, question: Question, sample: int) -> int:
    """The seed of one sample: neighbouring samples of a question have neighbouring seeds.

    So a request for n samples from `sample` on carries this seed, and vLLM, which gives its child j seed + j, draws
    each of them as it would alone. Questions begin at places of their own: one seed for all of them would draw the same
    numbers for each.
    """
    start = hashlib.blake2b(f"{seed}:{question.id}".encode(), digest_size=8).digest()
    return int.from_bytes(start, "big") % _SEEDS + sample


class Keys:
    """The keys of a run's samples: 16 hexadecimal digits each."""

    def __init__(self, model: str, sampling: Sampling, *, run: str | None = None, step: int | None = None) -> None:
        """Of samples that are drawn like this."""
        self._drawn = [model, asdict(sampling), run, step]

    def of(self, question: Question, samples: Iterable[int]) -> list[str]:
        """The key of each of these samples of the question."""
        asked = [question.id, question.prompt, question.system]
        common = hashlib.blake2b(json.dumps([*self._drawn, *asked], sort_keys=True).encode(), digest_size=8)
        keys = []
        for sample in samples:
            own = common.copy()
            own.update(b":%d" % sample)
            keys.append(own.hexdigest())
        return keys
