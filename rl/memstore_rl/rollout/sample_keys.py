"""Seeds and keys of samples.

A sample is one of the n answers to a question. Its key hashes everything that it was drawn with: the question's
identity in a memory, prompt and system message, model, sampling parameters, run, step and sample index. A run draws the
samples whose keys are missing from its output file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.engine import Sampling

_MAX_FIRST_SEED = 2**31 - 2**20
"""Upper bound of a question's first seed, so that all seeds are positive 32-bit integers, as servers require."""


def sample_seed(seed: int, question: Question, sample: int) -> int:
    """The seed of one sample; consecutive samples of a question have consecutive seeds.

    vLLM draws choice j of a request with seed + j. A request for n consecutive samples that carries the seed of the
    first one therefore draws each sample as a request for that sample alone would. Each question starts at a seed of
    its own; with one seed for all questions, every question would be sampled with the same random numbers.
    """
    digest = hashlib.blake2b(f"{seed}:{question.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _MAX_FIRST_SEED + sample


class SampleKeys:
    """Computes the keys of a run's samples: 16 hexadecimal digits each."""

    def __init__(self, model: str, sampling: Sampling, *, run: str | None = None, step: int | None = None) -> None:
        self._run_values = [model, asdict(sampling), run, step]

    def of(self, question: Question, samples: Iterable[int]) -> list[str]:
        """The key of each of these samples of the question."""
        question_values = [question.id, question.prompt, question.system]
        prefix = hashlib.blake2b(
            json.dumps([*self._run_values, *question_values], sort_keys=True).encode(), digest_size=8
        )
        keys = []
        for sample in samples:
            digest = prefix.copy()
            digest.update(b":%d" % sample)
            keys.append(digest.hexdigest())
        return keys
