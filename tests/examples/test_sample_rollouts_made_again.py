"""The example that makes the sample data, on a small scale: its command, problems, teacher and policy."""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_rollouts"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules of the example importable during a test only, since their names are common words."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    for name in ("task", "teacher", "policy", "make"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def make(folder: Path, *options: str) -> tuple[bytes, bytes]:
    """Run the command with few steps and return the bytes of its two files."""
    output, new = folder / "rollouts.jsonl.gz", folder / "new.jsonl.gz"
    small = ("--early", "3", "--late", "6", "--queries", "5", "--new-queries", "2")
    command = [sys.executable, str(EXAMPLE / "make.py"), "--output", str(output), "--new", str(new), *small, *options]
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    return output.read_bytes(), new.read_bytes()


def rollouts_in(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(data).decode().splitlines()]


def test_command_is_reproducible_for_a_seed(tmp_path: Path) -> None:
    first = make(tmp_path)
    assert make(tmp_path) == first
    assert make(tmp_path, "--seed", "1")[0] != first[0]
    both, new = map(rollouts_in, first)
    assert [(r["query_id"], r["step"], r["sample_index"]) for r in both] == [
        (f"arithmetic/{query:04d}", step, index) for step in (3, 6) for query in range(5) for index in range(8)
    ]
    assert {(r["query_id"], r["step"]) for r in new} == {("arithmetic/0005", 6), ("arithmetic/0006", 6)}
    assert {r["query"] for r in both}.isdisjoint(r["query"] for r in new)
    assert all(r["gold"].isdecimal() and r["reward"] in (0.0, 1.0) and r["mean_logprob"] < 0 for r in both + new)


@pytest.mark.usefixtures("example")
def test_grader_accepts_only_a_last_line_with_the_gold_answer() -> None:
    from task import grade

    worked = "She nets 3, so add 3: 21 + 3 = 24.\n"
    assert grade(worked + "#### 24", 24) == grade("#### 24\n", 24) == 1.0
    for response in ("#### 25", "#### 24.", "#### 24 + 1", "24", "#### ", "#### 4\n24", "#### 24\n#### 25"):
        assert grade(worked + response, 24) == 0.0, response


@pytest.mark.usefixtures("example")
def test_skills_have_unique_verbs_and_texts_fit_the_tokenizer() -> None:
    from make import make_tokenizer
    from policy import PROMPT_LENGTH, RESPONSE_LENGTH
    from task import draw_problem, skills
    from teacher import Teacher

    verbs = [skill.verb for skill in skills()]
    assert len(set(verbs)) == len(verbs)
    rng, tokenizer, teacher = random.Random(7), make_tokenizer(), Teacher(7)
    for _ in range(300):
        problem = draw_problem(rng)
        response = teacher.demonstrate(problem, rng)
        for text, room in ((problem.text, PROMPT_LENGTH), (response, RESPONSE_LENGTH - 1)):
            ids = tokenizer.encode(text)
            assert tokenizer.decode(ids) == text
            assert len(ids) <= room


@pytest.mark.usefixtures("example")
def test_teacher_has_correct_arithmetic_and_errs_at_its_reliability() -> None:
    from task import draw_problem, grade
    from teacher import Teacher

    rng, teacher = random.Random(3), Teacher(3)
    equation = re.compile(r"(\d+) ([+*-]) (\d+) = (\d+)\.")
    change = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    right = expected = 0.0
    for _ in range(2000):
        problem = draw_problem(rng)
        response = teacher.demonstrate(problem, rng)
        number = problem.start
        for before, sign, term, after in equation.findall(response):
            assert int(before) == number
            number = change[sign](number, int(term))
            assert int(after) == number
        assert response.endswith(f"#### {number}")
        chance = 1.0
        for step in problem.steps:
            chance *= teacher.reliability[step.skill.verb]
        right += grade(response, problem.gold)
        expected += chance
    assert right / 2000 == pytest.approx(expected / 2000, abs=0.06)


@pytest.mark.usefixtures("example")
def test_cached_sampling_reports_log_probabilities_of_the_whole_sequence() -> None:
    from policy import END, PROMPT_LENGTH, Policy

    torch.manual_seed(0)
    policy = Policy(vocabulary=12, width=16, depth=2, heads=2)
    prompts = [[3, 4, 5, 6], [7, 8, 9, 10]]
    samples = policy.sample(prompts, 3, torch.Generator().manual_seed(0))
    assert len(samples) == 6
    for index, sample in enumerate(samples):
        prompt, ended = prompts[index // 3], sample.finish_reason == "stop"
        ids = torch.tensor([[*prompt, *sample.tokens, *([END] if ended else [])]])
        positions = torch.arange(ids.shape[1] - 1) - len(prompt) + PROMPT_LENGTH
        with torch.inference_mode():
            log = policy.head(policy(ids[:, :-1], positions)).log_softmax(-1)
        drawn = log.gather(2, ids[:, 1:, None])[0, len(prompt) - 1 :, 0]
        assert sample.mean_logprob == pytest.approx(drawn.mean().item(), abs=1e-4)


@pytest.mark.usefixtures("example")
def test_loss_is_the_mean_over_response_tokens_with_any_padding() -> None:
    from policy import Policy

    torch.manual_seed(0)
    policy = Policy(vocabulary=12, width=16, depth=2, heads=2)
    pairs = [([3, 4, 5], [6, 7]), ([8], [9, 10, 11, 2])]
    alone = [policy.loss([pair]).item() for pair in pairs]
    assert policy.loss(pairs).item() == pytest.approx((3 * alone[0] + 5 * alone[1]) / 8, abs=1e-5)
