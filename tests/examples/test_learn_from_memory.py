"""The example in which a policy learns from memory, on a small scale: its policy, its memory and its command."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from itertools import groupby, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memstore.memory import Memory
from memstore.records.ids import query_id
from memstore.sample import sample_path
from memstore_rl.trainers.trl import reward_function
from memstore_schema.queries import named_queries

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the modules of the examples importable during a test only, since their names are common words."""
    for folder in ("sample_rollouts", "learn_from_memory"):
        monkeypatch.syspath_prepend(str(EXAMPLES / folder))
    for name in ("task", "teacher", "policy", "make", "words", "watch", "remember", "choose"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("example")
def test_tokenizer_round_trips_demonstrations() -> None:
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
def test_taught_policy_responds_in_the_format_of_the_task() -> None:
    from task import draw_problem
    from words import respond, taught_policy, word_tokenizer

    problems = [draw_problem(random.Random(seed)).text for seed in range(3)]
    responses = respond(taught_policy(60, 0), word_tokenizer(), problems, 4)
    assert [len(group) for group in responses] == [4, 4, 4]
    assert any("#### " in response for group in responses for response in group)


@pytest.mark.usefixtures("example")
def test_ledger_compares_rewards_with_truth_and_votes_by_step() -> None:
    from watch import Ledger

    ledger = Ledger(2, {"a": 5, "b": 7})
    ledger.add(0, ["a", "b", "a", "b"], ["#### 5", "#### 7", "#### 6", "#### 8"], [0.9, 0.8, 0.2, 0.1])
    ledger.add(1, ["a", "a", "a"], ["#### 6", "#### 6", "#### 5"], [0.1, 0.1, 0.7])
    ledger.add(2, ["b", "b"], ["#### 7", "no answer"], [0.25, None])
    first, second = ledger.quality()
    assert (first.steps, first.rollouts, first.right) == ("1-2", 7, pytest.approx(3 / 7))
    assert first.advantage == pytest.approx(0.98, abs=0.02)
    assert first.advantage_votes < 0
    assert (first.wrong, first.gap) == (1, pytest.approx(0.6))
    assert (second.steps, second.rollouts, second.wrong) == ("3-4", 1, 0)


@pytest.mark.usefixtures("example")
def test_top_share_counts_responses_without_an_answer() -> None:
    from choose import top_share

    assert top_share(["#### 5", "#### 5", "#### 6", "no answer"]) == 0.5
    assert top_share(["no answer"] * 4) == 0.25


@pytest.mark.slow
@pytest.mark.usefixtures("example")
def test_rollouts_of_a_training_are_in_the_memory_with_step_and_source(tmp_path: Path) -> None:
    from remember import Service, labelled_queries, remember, train_model

    with gzip.open(sample_path(), "rt", encoding="utf-8") as lines:
        by_query = groupby(map(json.loads, lines), key=lambda row: row["query_id"])
        groups = [list(islice(rows, 8)) for _, rows in islice(by_query, 24)]
    remember(tmp_path / "memory", tmp_path / "start.jsonl", [row for group in groups[4:] for row in group])
    assert labelled_queries(tmp_path / "memory") == {query_id(group[0]["query"]) for group in groups[4:]}
    assert train_model(tmp_path / "memory", 0).startswith("m-")
    with Service(tmp_path / "memory", tmp_path / "log", ["--expected", 8]) as service:
        function = reward_function(service.client, num_generations=8, policy="tiny", run="grpo")
        for step in (0, 1):
            columns = called(groups[2 * step : 2 * step + 2])
            rewards = function(**columns, trainer_state=SimpleNamespace(global_step=step))
            assert rewards[:8] == [row["reward"] for row in groups[2 * step]]
            assert all(reward is not None and 0 < reward < 1 for reward in rewards[8:])
            if step == 0:
                service.stop()
                service.start()
    query = next(query for query in named_queries() if query.name == "reward-by-step")
    with Memory.open(tmp_path / "memory") as memory:
        rows = memory.graph.cypher(query.text, {**query.parameters, "run": "grpo"}).rows
        counted = [(step, source, count) for _, step, source, count, _ in rows]
    assert counted == [(step, source, 8) for step in (0, 1) for source in ("ground_truth", "predicted")]


def called(groups: list[list[dict[str, Any]]]) -> dict[str, list[Any]]:
    """The columns that TRL passes for these groups; the first group is labelled."""
    rows = [(row, row["gold"] if group is groups[0] else "") for group in groups for row in group]
    extra = {"split": "train", "domain": "math"}
    return {
        "prompts": [[{"role": "user", "content": row["query"]}] for row, _ in rows],
        "completions": [[{"role": "assistant", "content": row["response"]}] for row, _ in rows],
        "data_source": [row["dataset"] for row, _ in rows],
        "reward_model": [{"style": "rule", "ground_truth": gold} for _, gold in rows],
        "extra_info": [{**extra, "query_id": row["query_id"], "key": row["query_id"]} for row, _ in rows],
    }


@pytest.mark.slow
def test_command_trains_and_writes_the_curve(tmp_path: Path) -> None:
    small = "--problems 12 --held-out 8 --lessons 40 --steps 2 --every 1 --queries-a-step 2 --mode budget --budget 0.5"
    command = [sys.executable, str(EXAMPLES / "learn_from_memory" / "learn.py"), "--folder", str(tmp_path / "learnt")]
    ran = subprocess.run([*command, *small.split()], capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr[-2000:]
    curves = json.loads((tmp_path / "learnt" / "curves.json").read_text())["accuracy"]
    assert (list(curves["start"]), list(curves["budget"])) == (["0"], ["1", "2"])
    assert "accuracy on 8 held-out problems" in ran.stdout
