"""Grades of real rollouts agree with plain counts."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from memstore_rl.grade import GradeOptions, Report, grade_files
from memstore_rl.grade.compare import PERMUTATIONS
from memstore_rl.verifiers import standard_verifiers
from memstore_rl.verifiers.code import CodeVerifier


def rows_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def by_policy(report: Report) -> dict[str, Any]:
    return {grade.policy.policy: grade.lines[0] for grade in report.grades}


@pytest.mark.parametrize("name", ["zeroeval__gsm8k", "mmlupro__mmlu_pro_ori", "thoughtsource__csqa"])
def test_accuracy_with_file_rewards_is_a_plain_count(shared_data: Path, name: str) -> None:
    path = shared_data / "rollouts" / f"{name}.jsonl.gz"
    right: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    for row in rows_of(path):
        right[row["policy"]] += row["reward"] > 0.5
        samples[row["policy"]] += 1
    graded = by_policy(grade_files([path], GradeOptions(rewards="file")))
    assert set(graded) == set(samples)
    for policy, line in graded.items():
        assert line.samples == line.file == samples[policy]
        assert line.metrics["accuracy"].value == right[policy] / samples[policy]


@pytest.mark.parametrize(("name", "agreement"), [("openai_gsm__gsm8k", 0.99), ("mmlupro__mmlu_pro_ori", 0.97)])
def test_verifier_accuracy_on_raw_responses_agrees_with_the_file(
    shared_data: Path, name: str, agreement: float
) -> None:
    path = shared_data / "raw" / f"{name}.jsonl.gz"
    verified, from_file = (
        by_policy(grade_files([path], GradeOptions(rewards=rewards))) for rewards in ("verifier", "file")
    )
    for policy, line in verified.items():
        assert line.unjudged == 0
        assert line.metrics["accuracy"].value == pytest.approx(
            from_file[policy].metrics["accuracy"].value, abs=1 - agreement
        )


def test_pass_at_k_of_many_samples_equals_enumeration(shared_data: Path) -> None:
    path = shared_data / "rollouts" / "icescore__humaneval.jsonl.gz"
    rewards: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in rows_of(path):
        rewards[row["query_id"], row["query"]].append(row["reward"] > 0.5)
    shares = []
    for own in rewards.values():
        subsets = list(combinations(own, 3))
        shares.append(sum(map(any, subsets)) / len(subsets))
    [line] = by_policy(grade_files([path], GradeOptions(ks=(3,), rewards="file", pool=True))).values()
    assert line.queries == len(rewards)
    assert line.metrics["pass@3"].value == pytest.approx(sum(shares) / len(shares), abs=1e-9)


def test_accuracy_of_executed_programs_equals_the_file(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "programs.jsonl"
    rows = rows_of(shared_data / "raw" / "codet__humaneval.jsonl.gz")[:48]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with closing(standard_verifiers(code=CodeVerifier())) as verifiers:
        [line] = by_policy(grade_files([path], GradeOptions(ks=(1, 8)), verifiers=verifiers)).values()
    assert (line.verifier, line.unjudged) == (48, 0)
    assert line.metrics["accuracy"].value == sum(row["reward"] for row in rows) / 48
    assert line.metrics["pass@8"].value >= line.metrics["majority@8"].value


def test_p_values_of_two_models_and_of_a_model_with_itself(shared_data: Path, tmp_path: Path) -> None:
    names = ("Phi-3.5-mini-instruct", "Meta-Llama-3-8B-Instruct")
    rows = [row for row in rows_of(shared_data / "rollouts" / "zeroeval__gsm8k.jsonl.gz") if row["policy"] in names]
    right: dict[str, dict[str, float]] = {name: {} for name in names}
    for row in rows:
        right[row["policy"]][row["query_id"]] = row["reward"]
    path = tmp_path / "two.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def compared(first: str, second: str) -> Any:
        report = grade_files([path], GradeOptions(rewards="file", policy=first, against_policy=second), against=[path])
        assert report.comparison is not None
        return report.comparison[0].metrics["accuracy"]

    both = compared(*names)
    better, worse = (sum(right[a][q] > right[b][q] for q in right[a]) for a, b in (names, names[::-1]))
    assert both.queries == len(right[names[0]]) == len(right[names[1]])
    assert both.difference == pytest.approx((better - worse) / both.queries)
    exact = binomtest(better, better + worse).pvalue
    assert both.p == pytest.approx(exact, abs=4 * (exact / PERMUTATIONS) ** 0.5 + 2 / PERMUTATIONS)
    assert compared(names[0], names[0]).p == 1.0
