"""The shipped sample rollouts: their fields, and rewards checked by an independent grader and by the splitter."""

from __future__ import annotations

import gzip
import json
import re
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, get_args

import pytest

from memstore.sample import Sample, sample_path
from memstore.text import canonical_answer, split_response

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sample_rollouts"
FIELDS = [
    *("query_id", "dataset", "domain", "query", "gold", "response", "policy", "run", "step", "sample_index", "reward"),
    *("mean_logprob", "finish_reason"),
]
CHANGES = {
    "add": lambda number, amount: number + amount,
    "subtract": lambda number, amount: number - amount,
    "add_twice": lambda number, amount: number + amount + amount,
    "subtract_twice": lambda number, amount: number - amount - amount,
    "double": lambda number, amount: number + number,
}

Rollout = dict[str, Any]


def read(name: Sample) -> list[Rollout]:
    with gzip.open(sample_path(name), "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def meanings() -> dict[str, str]:
    """The operation of each phrase, with "#" in place of its amount."""
    tables = tomllib.loads((EXAMPLE / "settings.toml").read_text())["setting"]
    return {phrase: change for table in tables for change in CHANGES for phrase in table.get(change, ())}


def solved(query: str, known: dict[str, str]) -> int:
    """The answer of a problem, computed from its text."""
    opening, *steps, _ = re.split(r"(?<=\.) ", query)
    number = int(re.findall(r"\d+", opening)[0])
    for step in steps:
        phrase = re.sub(r"^(Then|Later|After that)? ?(she|he|She|He) ", "", step.removesuffix("."))
        amounts = re.findall(r"\d+", phrase)
        change = CHANGES[known[re.sub(r"\d+", "#", phrase)]]
        number = change(number, int(amounts[0]) if amounts else 0)
    return number


@pytest.fixture(scope="module", params=get_args(Sample))
def rollouts(request: pytest.FixtureRequest) -> list[Rollout]:
    return read(request.param)


def test_rollouts_have_exactly_the_documented_fields(rollouts: list[Rollout]) -> None:
    for rollout in rollouts:
        assert list(rollout) == FIELDS
        assert (rollout["dataset"], rollout["domain"], rollout["policy"]) == ("arithmetic", "math", "tiny-arithmetic")
        assert rollout["response"].strip()
        assert rollout["mean_logprob"] < 0
        assert rollout["finish_reason"] in ("stop", "length")


def test_gold_is_the_answer_of_the_text(rollouts: list[Rollout]) -> None:
    known = meanings()
    for query, gold in {(rollout["query"], rollout["gold"]) for rollout in rollouts}:
        assert solved(query, known) == int(gold), query


def test_reward_is_one_iff_the_last_line_is_the_gold_answer(rollouts: list[Rollout]) -> None:
    for rollout in rollouts:
        last = rollout["response"].rstrip().split("\n")[-1]
        number = last.removeprefix("#### ")
        right = last.startswith("#### ") and number.isdecimal() and int(number) == int(rollout["gold"])
        assert rollout["reward"] == float(right), rollout["response"]


def test_right_rollout_and_gold_have_one_canonical_answer(rollouts: list[Rollout]) -> None:
    disagree = []
    for rollout in rollouts:
        query, gold = rollout["query"], rollout["gold"]
        split = split_response(rollout["response"], "math")
        assert "#### " not in split.thinking or rollout["reward"] == 0
        equal = canonical_answer(split.answer, "math", query).value == canonical_answer(gold, "math", query).value
        if equal != (rollout["reward"] == 1):
            disagree.append(rollout["response"])
    assert disagree == []


def test_groups_are_complete_and_queries_distinct() -> None:
    both, new = read("arithmetic"), read("arithmetic_new")
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for rollout in both + new:
        groups[rollout["query_id"], rollout["step"]].append(rollout["sample_index"])
    assert all(indices == list(range(8)) for indices in groups.values())
    steps = sorted({rollout["step"] for rollout in both})
    assert len(steps) == 2
    assert {rollout["step"] for rollout in new} == {steps[1]}
    assert Counter(step for _, step in groups) == {steps[0]: 400, steps[1]: 440}
    texts = {rollout["query_id"]: rollout["query"] for rollout in both + new}
    assert len(texts) == len(set(texts.values())) == 440


def test_accuracy_rises_and_groups_are_mixed() -> None:
    early, late = sorted({rollout["step"] for rollout in read("arithmetic")})
    rewards: dict[int, dict[str, list[float]]] = {early: defaultdict(list), late: defaultdict(list)}
    for rollout in read("arithmetic"):
        rewards[rollout["step"]][rollout["query"]].append(rollout["reward"])
    mean = {step: sum(map(sum, groups.values())) / 3200 for step, groups in rewards.items()}
    assert 0.2 < mean[early] < 0.4 < 0.5 < mean[late] < 0.7
    for groups in rewards.values():
        assert sum(0 < sum(group) < 8 for group in groups.values()) > 200


def test_both_files_are_small() -> None:
    assert sum(sample_path(name).stat().st_size for name in get_args(Sample)) < 3_000_000
