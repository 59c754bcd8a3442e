"""A pretrained model through the whole of memstore: benchmarks/real_policy.py with two rollouts of each query.

`make test-real-policy` runs these tests, with the model's packages on PYTHONPATH. `make test` skips them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memstore import Memory
from memstore_schema.columns import NodeLabel

ROOT = Path(__file__).resolve().parents[2]
COUNT = 2
"""Rollouts of each query."""

pytestmark = [
    pytest.mark.skipif("MEMSTORE_TEST_POLICY" not in os.environ, reason="make test-real-policy runs these tests"),
    pytest.mark.timeout(600),
]


class Ran(NamedTuple):
    """A finished run: its folder, its rollouts, and the output of each command by its verb."""

    folder: Path
    rows: list[dict[str, Any]]
    output: dict[str, str]


def run_in(folder: Path) -> dict[str, str]:
    """Run the benchmark's commands; returns the output of each by its verb."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import real_policy

        outputs = {words.split()[0]: output for words, output in real_policy.run(folder, COUNT)}
        sys.modules.pop("real_policy")
    return outputs


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run of all commands."""
    folder = tmp_path_factory.mktemp("policy")
    output = run_in(folder)
    rows = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
    return Ran(folder, rows, output)


def answers(ran: Ran) -> dict[tuple[str, int], str]:
    """The answer that the memory has for each rollout, by key and index of the sample; "" where it has none."""
    with Memory.open(ran.folder / "memory") as memory:
        found = memory.cypher(
            "MATCH (t:Thinking) OPTIONAL MATCH (t)-[:LEADS_TO]->(a:Answer) RETURN t.query_key, t.sample_index, a.value"
        )
        return {(key, sample): value or "" for key, sample, value in found.rows}


def test_every_rollout_is_sampled_stored_and_graded(ran: Ran) -> None:
    assert len(ran.rows) == 52 * COUNT
    assert all(row["reward"] in (0, 1) and row["mean_logprob"] < 0 for row in ran.rows)
    assert f"{52 * COUNT} rollouts added, 0 unchanged" in ran.output["ingest"]
    assert f"{26 * COUNT} rollouts scored" in ran.output["score"]
    assert "trained on 26 labelled queries, evaluated on 26 others" in ran.output["train"]


def test_the_model_solves_some_problems_and_some_programs(ran: Ran) -> None:
    for dataset, floor in (("word_problems", 0.05), ("programs", 0.2)):
        rewards = [row["reward"] for row in ran.rows if row["dataset"] == dataset]
        assert floor < sum(rewards) / len(rewards) < 0.9
        assert dataset in ran.output["grade"]


def test_a_number_in_the_requested_form_is_the_answer(ran: Ran) -> None:
    stored, checked = answers(ran), 0
    for row in ran.rows:
        form = re.search(r"\n#### (\d+)\s*\Z", row.get("response", ""))
        if form and row["domain"] == "math":
            checked += 1
            assert stored[row["query_id"], row["sample_index"]] == form[1]
            assert row["reward"] == (form[1] == row["gold"])
    assert checked > 0


def test_a_response_that_defines_a_function_has_a_program_as_its_answer(ran: Ran) -> None:
    stored, checked = answers(ran), 0
    for row in ran.rows:
        if row["domain"] == "code" and re.search(r"^def ", row.get("response", ""), re.M):
            checked += 1
            assert re.search(r"^def ", stored[row["query_id"], row["sample_index"]], re.M), row["response"]
    assert checked > 12


def test_truncated_rollouts_have_thinking_and_no_answer(ran: Ran) -> None:
    cut = [row for row in ran.rows if row["finish_reason"] == "length"]
    stored = answers(ran)
    assert all(row["thinking"] and row["reward"] == 0 for row in cut)
    assert {stored[row["query_id"], row["sample_index"]] for row in cut} <= {""}


def test_a_repeated_run_samples_and_adds_nothing(ran: Ran) -> None:
    again = run_in(ran.folder)
    assert f" 0 new rollouts, {52 * COUNT} existing" in again["rollout"]
    assert f"nothing new: all {52 * COUNT} rollouts are in the memory already" in again["ingest"]
    with Memory.open(ran.folder / "memory") as memory:
        assert memory.graph.nodes(NodeLabel.THINKING, []).num_rows == 52 * COUNT
