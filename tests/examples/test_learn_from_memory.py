"""The example in which a policy learns from memory, run small: its policy and tokenizer, and the command itself."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples' modules are importable, and forgotten afterwards: their names are common words."""
    for folder in ("sample_rollouts", "learn_from_memory"):
        monkeypatch.syspath_prepend(str(EXAMPLES / folder))
    for name in ("task", "teacher", "policy", "make", "words"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("example")
def test_the_tokenizer_gives_back_what_the_teacher_wrote() -> None:
    from task import draw_problem
    from teacher import Teacher
    from words import word_tokenizer

    tokenizer, rng = word_tokenizer(), random.Random(0)
    for _ in range(20):
        problem = draw_problem(rng)
        shown = Teacher(0).demonstrate(problem, rng)
        ids = tokenizer.encode(shown)
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == shown
        asked = [{"role": "user", "content": problem.text}]
        assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == problem.text


@pytest.mark.usefixtures("example")
def test_a_policy_that_was_taught_responds_in_the_task_s_words() -> None:
    from task import draw_problem
    from words import respond, taught_policy, word_tokenizer

    problems = [draw_problem(random.Random(seed)).text for seed in range(3)]
    responses = respond(taught_policy(60, 0), word_tokenizer(), problems, 4)
    assert [len(group) for group in responses] == [4, 4, 4]
    assert any("#### " in response for group in responses for response in group)


@pytest.mark.slow
def test_the_command_trains_and_keeps_the_curve(tmp_path: Path) -> None:
    small = "--problems 12 --held-out 8 --lessons 40 --steps 2 --every 1 --queries-a-step 2 --mode budget --budget 0.5"
    command = [sys.executable, str(EXAMPLES / "learn_from_memory" / "learn.py"), "--folder", str(tmp_path / "learnt")]
    ran = subprocess.run([*command, *small.split()], capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr[-2000:]
    curves = json.loads((tmp_path / "learnt" / "curves.json").read_text())
    assert list(curves["budget"]) == ["1", "2"]
    assert "accuracy on held-out problems" in ran.stdout
