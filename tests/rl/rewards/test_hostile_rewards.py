"""Programs that no reader can write out, or whose results show hashes and addresses, are rewarded, and always alike.

They come as new rollouts through the reward service and as rows of the memory that it trains on and scores with.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstore.memory import Memory
from memstore.runtime.fair_queue import CpuAccount
from memstore.runtime.processes import WorkerPool
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.programs import worker
from memstore_gnn.verbs import score_memory_rollouts, train_memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.service.journal import Journal
from memstore_rl.service.recorder import Recorder
from memstore_rl.service.service import RewardService
from memstore_rl.service.texts import TextVectors
from memstore_rl.service.wire import GroupIn, QueryIn, RolloutIn, ScoreRequest

POISONS = {
    # What cannot be written out again: a tree that is too deep, a number that is too long.
    "sum": "return " + " + ".join(["x"] * 400),
    "calls": "return x" + "()" * 400,
    "minus": "return " + "-" * 500 + "1",
    "hexadecimal": "return 0x" + "F" * 4000,
    "no program": "return )",
}
UNSTABLE = {
    # What depends on the hash seed, on the order of sets or on addresses.
    "set of letters": "return ''.join(set(str(x) + 'abcdefgh'))",
    "first of a set": "return list({'apple', 'pear', 'fig', str(x)})[0]",
    "popped": "return {('a', x), ('b', x), ('c', x)}.pop()",
    "hash": "return hash('abc') + x",
    "address": "return repr(lambda: x)",
    "id": "return id(x)",
    "None in a set": "return list({None, 'a', x})",
    "nan in a set": "return list({float('nan'), x, 'b'})",
}
ANNOTATIONS = {"int": "int", "minus": "-" * 380 + "1", "hexadecimal": "0x" + "F" * 300}


def query_text(number: int, annotation: str = "int") -> str:
    example = f">>> f{number}(3)\n    {3 + number}"
    return f"def f{number}(x: {annotation}) -> int:\n    '''Return x + {number}.\n    {example}\n    '''\n"


def response(number: int, body: str, sample: int = 0) -> str:
    return f"try {sample}\n```python\ndef f{number}(x):\n    {body}\n```"


def row(number: int, sample: int, body: str, **others: Any) -> dict[str, Any]:
    text = query_text(number, others.pop("annotation", "int"))
    fields = {"query": text, "response": response(number, body, sample), "sample_index": sample}
    return fields | {"domain": "code", "dataset": "toy"} | others


def memory_rows() -> list[dict[str, Any]]:
    bodies = [*POISONS.values(), *UNSTABLE.values()]
    rows = []
    for number in range(10):
        for sample in range(3):
            wrong = sample == 0 and number % 2 == 0
            rows.append(row(number, sample, f"return x + {number + wrong}", reward=float(not wrong)))
        rows.append(row(number, 3, bodies[number], reward=0.0))
    rows += [row(20, sample, body) for sample, body in enumerate(bodies)]
    return rows + [row(30 + n, 0, "return x", annotation=text) for n, text in enumerate(ANNOTATIONS.values())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory with such rows, labelled and not, and a model that was trained on them."""
    made = tmp_path_factory.mktemp("hostile")
    (made / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in memory_rows()))
    with Memory.open(made / "memory", create=True, embedder=HashEmbedder()) as memory:
        assert memory.ingest([made / "rows.jsonl"]).rejected == 0
        train_memory(memory, epochs=2, device="cpu")
    return made / "memory"


def groups() -> list[Group]:
    """Groups of a new run: one of each kind, and one for each query that is poisoned itself."""
    made = []
    for bodies in (POISONS, UNSTABLE):
        rollouts = [Rollout(response=response(40, body), run="new", step=1) for body in bodies.values()]
        made.append(Group(RewardQuery(query_text(40), dataset="toy", domain="code"), rollouts))
    for annotation in ANNOTATIONS.values():
        rollouts = [Rollout(response=response(50, "return x + 50"), run="new", step=1)] * 2
        made.append(Group(RewardQuery(query_text(50, annotation), dataset="toy", domain="code"), rollouts))
    return made


def request() -> ScoreRequest:
    return ScoreRequest(
        groups=tuple(
            GroupIn(
                query=QueryIn(text=group.query.text, dataset="toy", domain="code"),
                rollouts=tuple(RolloutIn(response=one.response, run="new", step=1) for one in group.rollouts),
            )
            for group in groups()
        )
    )


def test_the_service_scores_and_records_poisoned_rollouts(folder: Path, tmp_path: Path) -> None:
    async def score(service: RewardService) -> Any:
        service.start()
        try:
            return await service.score(request())
        finally:
            await service.stop()

    with Memory.open(folder, embedder=HashEmbedder()) as memory:
        journal = Journal(tmp_path / "journal.sqlite")
        with GroupScorer.open(memory) as scorer:
            found = asyncio.run(score(RewardService(scorer, journal)))
        rewards = [reward for of_group in found.rewards for reward in of_group]
        assert [len(of_group) for of_group in found.rewards] == [len(group.rollouts) for group in groups()]
        assert {reward.source for reward in rewards} == {"predicted"}
        assert np.isfinite([reward.value for reward in rewards]).all()
        # They become rows of the memory, which goes on as before.
        recorder = Recorder(memory, journal, flush=TextVectors(memory.embedder, memory.cache).flush)
        assert recorder.round() == found.recorded == len(rewards)
        journal.close()
        train_memory(memory, epochs=2, device="cpu")
        assert score_memory_rollouts(memory, output=tmp_path / "scores.jsonl").scored >= len(rewards)


def test_programs_run_before_a_request_is_batched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other requests of a batch must not wait for them: `score_verified` finds all outcomes."""
    ran: list[int] = []
    send = WorkerPool.request

    def counted(self: WorkerPool, line: bytes, timeout_s: float, account: CpuAccount | None = None) -> bytes | None:
        ran.append(len(line))
        return send(self, line, timeout_s, account)

    monkeypatch.setattr(WorkerPool, "request", counted)
    worker._cache.clear()
    with Memory.open(folder, embedder=HashEmbedder()) as memory, GroupScorer.open(memory) as scorer:
        ran.clear()
        worker._cache.clear()
        verified = scorer.verify(groups())
        assert ran
        ran.clear()
        scorer.score_verified(verified)
        assert not ran


SCRIPT = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import test_hostile_rewards as rows
from memstore.memory import Memory
from memstore.testing import hostile
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.text import canonical_answer, split_response
from memstore_gnn.programs import worker
from memstore_gnn.verbs import train_memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.verifiers import Attempt, standard_verifiers
from random import Random

found = []
for number in range(60):
    chance = Random(number)
    text, query, domain = hostile.response(chance), hostile.query(chance), ("math", "qa", "code", "other")[number % 4]
    split = split_response(text, domain)
    found.append([split.thinking, split.answer, *canonical_answer(split.answer, domain, query)])
verifiers = standard_verifiers()
answers = ["x+1", "\\\\{1,2\\\\}", "1+x", "\\\\sqrt{2}+\\\\sqrt{3}", "(1,2]", "x^2+y+z", "\\\\frac{a+b}{c}"]
pairs = [Attempt("q", gold, answer) for gold in answers for answer in answers]
found.append([list(verdict) for verdict in verifiers.check("math", pairs)])
verifiers.close()
with Memory.open(Path(sys.argv[1]), embedder=HashEmbedder()) as memory:
    train_memory(memory, epochs=2, device="cpu")
    for _ in range(2):
        worker._cache.clear()
        with GroupScorer.open(memory) as scorer:
            found.append([[reward.value for reward in group] for group in scorer.score_groups(rows.groups())])
assert found[-1] == found[-2]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_outcomes_do_not_depend_on_the_hash_seed(folder: Path) -> None:
    """Texts, verdicts, training and rewards are equal in processes with other hashes, set orders and addresses."""
    found = []
    for seed in ("1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(folder), str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert found[0] == found[1]
