"""`grade_files`: policies, reward sources, metrics, comparison, and what is left out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from memstore.errors import InputError
from memstore.records.record import RecordDefaults
from memstore_rl.grade import GradeOptions, Report, grade_files
from memstore_rl.grade.sample_writer import KEYS

Write = Callable[..., Path]


def row(query: int, answer: str, sample: int = 0, **more: Any) -> dict[str, Any]:
    """A rollout of a sum whose answer is the query's number; keys with the value None are left out."""
    values = {
        "query_id": f"q{query}",
        "query": f"Which number is {query}?",
        "dataset": "numbers",
        "domain": "math",
        "gold": str(query),
        "answer": answer,
        "policy": "small",
        "sample_index": sample,
        **more,
    }
    return {key: value for key, value in values.items() if value is not None}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(*rows: Mapping[str, Any], name: str = "rollouts.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(values) + "\n" for values in rows), encoding="utf-8")
        return path

    return written


def one_line(report: Report) -> Any:
    """The line of the one dataset of the one policy."""
    [grade] = report.grades
    return grade.lines[0]


def test_accuracy_counts_samples_and_pass_at_1_queries(write: Write) -> None:
    file = write(row(1, "1"), row(1, "1.0", 1), row(1, "3", 2), row(2, "7"))
    line = one_line(grade_files([file], GradeOptions(ks=(1, 2))))
    assert (line.queries, line.samples, line.verifier, line.unjudged) == (2, 4, 4, 0)
    assert line.metrics["accuracy"].value == 2 / 4
    assert line.metrics["pass@1"].value == pytest.approx((2 / 3 + 0) / 2)
    assert line.metrics["pass@2"].value == pytest.approx(1.0)
    assert line.metrics["pass@2"].queries == 1


def test_equal_values_vote_together(write: Write) -> None:
    answers = ["0.5", "1/2", "7", "\\frac{1}{2}", "7"]
    file = write(*(row(1, answer, n, gold="0.5") for n, answer in enumerate(answers)))
    line = one_line(grade_files([file], GradeOptions(ks=(5,))))
    assert line.metrics["majority@5"].value == 1.0


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        (None, [(1.0, "verifier"), (0.0, "verifier"), (1.0, "file"), (None, None)]),
        ("verifier", [(1.0, "verifier"), (0.0, "verifier"), (None, None), (None, None)]),
        ("file", [(0.0, "file"), (None, None), (1.0, "file"), (None, None)]),
    ],
)
def test_every_sample_has_a_reward_source_or_a_reason(
    write: Write, tmp_path: Path, rewards: Any, expected: list[tuple[float | None, str | None]]
) -> None:
    file = write(
        row(1, "1", reward=0.0), row(2, "5"), row(3, "9", gold=None, reward=1.0), row(4, "4", gold=None)
    )  # fmt: skip
    report = grade_files([file], GradeOptions(rewards=rewards), samples=tmp_path / "samples.jsonl")
    written = [json.loads(each) for each in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(tuple(each) == KEYS for each in written)
    assert [(each["reward"], each["source"]) for each in written] == expected
    assert all((each["reason"] is None) == (each["reward"] is not None) for each in written)
    line = one_line(report)
    assert line.verifier + line.file + line.unjudged == line.samples == 4
    assert line.metrics["accuracy"].value == pytest.approx(
        sum(reward for reward, _ in expected if reward is not None) / (line.verifier + line.file)
    )
    assert sum(report.reasons.values()) == line.unjudged
    assert any("were not judged" in note for note in report.notes)


def test_a_program_that_is_not_run_does_not_silently_get_the_files_reward(write: Write) -> None:
    program = {"domain": "code", "gold": "def check(f):\n    assert f() == 1\n", "reward": 1.0}
    file = write(row(1, "1"), row(2, "def f(): return 1", **program))
    line = one_line(grade_files([file]))
    assert (line.verifier, line.file, line.unjudged) == (1, 0, 1)
    with pytest.raises(InputError, match=r"programs are not run .*--code.*--rewards file"):
        grade_files([write(row(2, "def f(): return 1", **program), name="programs.jsonl")])
    assert one_line(grade_files([file], GradeOptions(rewards="file", policy="small"))).file == 1


def test_an_empty_answer_is_wrong_and_counted(write: Write) -> None:
    file = write(row(1, ""), row(1, "  ", 1), row(1, "1", 2), row(2, "", domain="qa", gold="B"))
    line = one_line(grade_files([file], GradeOptions(ks=(3,))))
    assert (line.samples, line.verifier, line.empty) == (4, 4, 3)
    assert line.metrics["accuracy"].value == 1 / 4
    assert line.metrics["majority@3"].value == 1.0


def test_the_truncated_share_needs_finish_reasons(write: Write) -> None:
    ends = ["stop", "length", "stop", None]
    file = write(*(row(n, str(n), finish_reason=end) for n, end in enumerate(ends)))
    assert one_line(grade_files([file])).truncated == pytest.approx(1 / 3)
    assert one_line(grade_files([write(row(1, "1"))])).truncated is None


def test_fractional_rewards_are_correct_above_a_half(write: Write) -> None:
    file = write(*(row(n, "x", gold=None, reward=reward) for n, reward in enumerate([0.0, 0.1, 0.5, 0.6, 1.0])))
    report = grade_files([file])
    assert one_line(report).metrics["accuracy"].value == 2 / 5
    assert any("3 rewards" in note for note in report.notes)


def test_steps_and_runs_are_separate_policies(write: Write) -> None:
    file = write(
        row(1, "1", step=1), row(1, "0", step=2), row(1, "1", run="a"), row(1, "1", run="b"), row(1, "0", policy="big")
    )
    report = grade_files([file])
    assert [tuple(grade.policy) for grade in report.grades] == [
        ("big", None, None), ("small", None, 1), ("small", None, 2), ("small", "a", None), ("small", "b", None),
    ]  # fmt: skip
    assert [g.policy.label for g in grade_files([file], GradeOptions(policy="small@2")).grades] == ["small@2"]
    assert len(grade_files([file], GradeOptions(policy="small")).grades) == 4
    pooled = grade_files([file], GradeOptions(pool=True))
    assert [grade.policy.label for grade in pooled.grades] == ["all of rollouts.jsonl"]
    assert (one_line(pooled).queries, one_line(pooled).samples) == (1, 5)
    with pytest.raises(InputError, match="no rollout of policy 'huge'"):
        grade_files([file], GradeOptions(policy="huge"))


def test_a_repeated_rollout_counts_once(write: Write) -> None:
    file = write(
        row(1, "1"), row(1, "1", 1), row(1, "1"), row(2, "0", sample_index=None), row(2, "0", sample_index=None)
    )
    report = grade_files([file, file])
    assert one_line(report).samples == 4
    assert report.repeated == 1 + 5
    assert report.rows == 10


def test_one_question_under_two_keys_counts_under_each(write: Write) -> None:
    one = {"query": "What is 1 + 1?", "dataset": "sums", "domain": "math", "response": "\\boxed{2}", "policy": "small"}
    file = write(one | {"query_id": "a", "gold": "2"}, one | {"query_id": "b", "gold": "3"})
    report = grade_files([file], GradeOptions(rewards="verifier"))
    assert (report.rows, report.repeated) == (2, 0)
    assert one_line(report).samples == 2


def test_a_metric_at_k_needs_k_samples_and_gaps_are_reported(write: Write) -> None:
    file = write(*(row(1, "1", n) for n in range(4)), *(row(2, "1", n) for n in range(2)), row(3, "3"))
    report = grade_files([file], GradeOptions(ks=(2, 4, 8)))
    metrics = one_line(report).metrics
    assert (metrics["pass@2"].value, metrics["pass@2"].queries) == (0.5, 2)
    assert (metrics["pass@4"].value, metrics["pass@4"].queries) == (1.0, 1)
    assert (metrics["pass@8"].value, metrics["pass@8"].queries) == (None, 0)
    [grade] = report.grades
    assert [(gap.k, gap.queries, gap.of, gap.names) for gap in grade.gaps] == [
        (2, 1, 3, ("q3",)), (4, 2, 3, ("q2", "q3")), (8, 3, 3, ("q1", "q2", "q3")),
    ]  # fmt: skip
    assert any("1 of 3 queries of numbers have fewer than 2" in note and "q3" in note for note in report.notes)
    assert any("no query of numbers has 8 judged samples" in note for note in report.notes)


def test_default_k_is_the_number_of_samples_of_half_of_the_queries(write: Write) -> None:
    sizes = [1, 4, 4, 8]
    file = write(*(row(query, "1", n) for query, size in enumerate(sizes) for n in range(size)))
    assert grade_files([file]).ks == (1, 4)


def test_means_over_datasets_of_different_sizes(write: Write) -> None:
    file = write(
        *(row(n, str(n)) for n in range(8)),
        row(11, "2", dataset="other"),
        row(12, "2", dataset="other", domain="other"),
    )
    [grade] = grade_files([file]).grades
    numbers, other, weighted, macro = grade.lines
    assert (numbers.dataset, other.dataset, weighted.mean, macro.mean) == ("numbers", "other", "weighted", "macro")
    assert (other.verifier, other.unjudged) == (1, 1)
    assert weighted.metrics["accuracy"].value == 8 / 9
    assert macro.metrics["accuracy"].value == (1 + 0) / 2
    assert (weighted.queries, weighted.samples) == (macro.queries, macro.samples) == (10, 10)


def test_two_policies_on_the_same_queries(write: Write) -> None:
    first = write(*(row(n, str(n)) for n in range(1, 9)), row(50, "50"), name="first.jsonl")
    second = write(*(row(n, str(n * (n > 6)), policy="other") for n in range(1, 9)), row(60, "0"), name="second.jsonl")
    with pytest.raises(InputError, match=r"second\.jsonl holds 2 policies \(other, small\).*--against-policy"):
        grade_files([first], against=[second])
    report = grade_files([first], GradeOptions(against_policy="other"), against=[second])
    assert report.comparison is not None
    line = report.comparison[0]
    assert (line.queries, line.only_first, line.only_second) == (8, 1, 0)
    accuracy = line.metrics["accuracy"]
    assert (accuracy.first, accuracy.second, accuracy.difference) == (1.0, 0.25, 0.75)
    assert accuracy.p == pytest.approx(2 / 2**6)
    assert accuracy.low is not None
    assert 0.25 < accuracy.low < 0.75
    assert report.against is not None
    assert report.against.policy.policy == "other"
    assert any("1 of the first policy alone" in note for note in report.notes)


def test_samples_without_a_verdict_are_written_with_their_reasons(write: Write, tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    report = grade_files([write(row(1, "1", gold="???"))], samples=file)
    assert report.grades == ()
    assert "none of the 1 samples" in report.notes[0]
    [sample] = [json.loads(line) for line in file.read_text().splitlines()]
    assert sample["reward"] is None


def test_files_without_a_common_query_are_rejected(write: Write) -> None:
    first, second = write(row(1, "1"), name="a.jsonl"), write(row(2, "2"), name="b.jsonl")
    with pytest.raises(InputError, match=r"a\.jsonl and b\.jsonl have no judged query in common.*datasets and texts"):
        grade_files([first], against=[second])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty"),
        ([row(1, "1", gold=None)], "none of the 1 samples .*neither gold nor reward"),
        ([{"text": "no rollout"}], "rollouts.jsonl contains no rollouts: rollouts.jsonl:1: the row has the keys text"),
        ([row(1, "1", gold="???")], "none of the 1 samples .*cannot be read"),
    ],
)
def test_a_file_without_gradable_samples_is_rejected(
    write: Write, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    # With a file for the samples, samples without a verdict are written and not an error; see the test above.
    samples = None if message.startswith("none") else tmp_path / "samples.jsonl"
    with pytest.raises(InputError, match=message) as raised:
        grade_files([write(*rows)], samples=samples)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rollouts.jsonl"]


def test_unwritable_sample_files_are_rejected(write: Write, tmp_path: Path) -> None:
    file = write(row(1, "1"))
    with pytest.raises(InputError, match="missing for samples.jsonl does not exist"):
        grade_files([file], samples=tmp_path / "missing" / "samples.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        grade_files([file], samples=tmp_path)
    with pytest.raises(InputError, match="is an input, so the samples cannot be written to it"):
        grade_files([write(row(2, "2"), name="other.jsonl")], against=[file], samples=tmp_path / "." / file.name)


def test_rows_that_are_not_rollouts_are_counted(write: Write) -> None:
    report = grade_files([write(row(1, "1"), {"query": ""}, row(2, "2", reward=7))])
    assert (report.rows, report.rejected, one_line(report).samples) == (3, 2, 1)
    assert any("2 of 3 rows" in note and "rollouts.jsonl:2: query is empty" in note for note in report.notes)


def test_every_format_gives_the_same_report(write: Write, tmp_path: Path) -> None:
    rows = [row(n, str(n if n % 3 else 0), sample) for n in range(1, 7) for sample in range(2)]
    lines = write(*rows)
    (tmp_path / "rollouts.gz").write_bytes(gzip.compress(lines.read_bytes()))
    pd.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    reports = [grade_files([path]).as_json() for path in (lines, tmp_path / "rollouts.gz", tmp_path / "table.parquet")]
    assert reports[0] == reports[1] == reports[2]


def test_dumps_of_verl_and_completions_of_trl(write: Write) -> None:
    common = {"step": 3, "score": 0.0}
    dump = [
        {"input": f"user\nWhat is {n} and 1?\nassistant\n", "output": f"#### {n + 1}", "gts": str(max(n, 2)), **common}
        for n in range(4)
    ]
    report = grade_files([write(*dump)], GradeOptions(defaults=RecordDefaults(dataset="sums", domain="math")))
    line = one_line(report)
    assert (line.dataset, line.verifier, line.metrics["accuracy"].value) == ("sums", 4, 0.25)
    assert report.grades[0].policy.step == 3
    trl = [
        {"prompt": f"What is {n}?", "completion": str(n), "accuracy_reward": float(n > 0), "step": 1} for n in range(4)
    ]
    line = one_line(grade_files([write(*trl)], GradeOptions(defaults=RecordDefaults(reward_column="accuracy_reward"))))
    assert (line.file, line.metrics["accuracy"].value) == (4, 0.75)
