"""`memstore explain`, `promote`, `models`, and abstention and drift in `score`."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstore_cli.main import run


@pytest.fixture(scope="module")
def trained(memory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the memory of sums with two models: one trained on half of the labels, one on the default share."""
    folder = Path(shutil.copytree(memory, tmp_path_factory.mktemp("trained") / "memory"))
    for words in (("--budget", "0.5"), ("--seed", "1")):
        assert run(["train", *words, "--epochs", "2", "--memory", str(folder), "--json"]) == 0
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_explain_prints_the_documented_keys(trained: Path, command: Callable[..., Any]) -> None:
    words = ("explain", "sum-38", "--sample", 2, "--memory", trained)
    document = command(*words, "--json").document
    keys = {"rollout", "query", "question", "dataset", "policy", "run", "step", "sample_index", "answer", "votes"}
    keys |= {"group", "model", "probability", "reward", "source", "logit", "influences", "edges"}
    keys |= {"written", "judged_by", "judged_at", "others", "votes_of_others"}
    assert set(document) == keys
    assert (document["sample_index"], document["group"], document["written"]) == (2, 4, None)
    first = document["influences"][0]
    assert set(first) == {"kind", "node", "id", "text", "label", "similarity", "taken", "without", "effect", "weight"}
    assert (document["source"], document["judged_by"], first["kind"]) == ("remembered", "gold", "remembered verdict")
    assert first["effect"] == pytest.approx(document["reward"] - document["probability"])
    for one in document["influences"][1:]:
        assert one["effect"] == pytest.approx(document["probability"] - one["without"])
    for name in ("influences", "edges"):
        assert sum(one["weight"] for one in document[name]) == pytest.approx(document["logit"], abs=1e-3)
    table = command(*words, "--limit", 3).out
    assert document["rollout"] in table
    assert f"{first['weight']:+.4f}  {first['effect']:+.4f}" in table
    assert f"{document['logit']:+.4f}, the sum of the weights" in table
    rest = document["influences"][3:]
    assert f"and {len(rest)} more, together {sum(one['weight'] for one in rest):+.4f}; --limit shows them" in table
    assert f"({document['votes']} of 4 in its group, {document['votes_of_others']} of {document['others']} " in table
    assert command("explain", document["rollout"][:14], "--memory", trained, "--json").document == document


def test_written_influences_are_found_by_cypher(trained: Path, command: Callable[..., Any]) -> None:
    words = ("explain", "sum-39", "--sample", 0, "--write", "--memory", trained)
    document = command(*words, "--json").document
    asked = ("cypher", "--query", "why", "--param", f"rollout={document['rollout']}", "--param", "limit=99")
    rows = command(*asked, "--memory", trained, "--json").document
    assert document["written"] == len(rows) > 0
    weights = {one["id"]: one["weight"] for one in document["edges"]}
    assert all(row["weight"] == pytest.approx(weights[row["id"]]) for row in rows)
    assert sum(row["weight"] for row in rows) == pytest.approx(document["logit"], abs=1e-3)
    assert {row["model"] for row in rows} == {document["model"]}
    assert [abs(row["weight"]) for row in rows] == sorted((abs(row["weight"]) for row in rows), reverse=True)
    reached = ("cypher", "--query", "propagation", "--param", f"node={rows[0]['id']}", "--memory", trained, "--json")
    assert (rows[0]["weight"], document["rollout"]) in [
        (row["weight"], row["rollout"]) for row in command(*reached).document
    ]
    shown = command(*words).out
    assert "INFLUENCED_BY written; see:" in shown
    printed = shlex.split(shown.splitlines()[-1])
    assert printed[:2] == ["memstore", "cypher"]
    found = command(*printed[1:], "--json").document
    assert found == rows[: len(found)] != []
    assert command(*asked, "--memory", trained, "--json").document == rows


def test_an_empty_why_says_what_to_do(trained: Path, command: Callable[..., Any]) -> None:
    rollout = command("explain", "sum-37", "--sample", 1, "--memory", trained, "--json").document["rollout"]
    asked = ("cypher", "--query", "why", "--param", f"rollout={rollout}", "--memory", trained)
    assert "store one with: memstore explain ID --write" in command(*asked).out
    assert command(*asked, "--json").document == []


def test_explain_suggests_similar_ids(trained: Path, command: Callable[..., Any]) -> None:
    done = command("explain", "sum-83", "--memory", trained)
    assert (done.code, done.out) == (1, "")
    assert "did you mean sum-" in done.err
    several = command("explain", "sum-38", "--memory", trained)
    assert several.code == 1
    assert "4 rollouts match 'sum-38'" in several.err


def test_promote_prints_a_report_and_the_model_in_use(trained: Path, command: Callable[..., Any]) -> None:
    newest, older = command("models", "--memory", trained, "--json").document
    assert [newest["in_use"], older["in_use"], newest["promoted"], newest["here"]] == [True, False, False, True]
    refused = command("promote", older["model"], "--least", 99, "--memory", trained)
    assert refused.code == 1
    assert refused.err.startswith("error: ")
    assert "too few to compare the models, so it was not promoted" in refused.err.splitlines()[-1]
    report = command("promote", older["model"], "--force", "--memory", trained, "--json").document
    assert {"candidate", "current", "fresh_queries", "fresh_rollouts", "after_training"} <= set(report)
    assert {"comparison", "verdict", "promoted"} <= set(report)
    assert (report["candidate"], report["current"], report["promoted"]) == (older["model"], newest["model"], True)
    table = command("models", "--memory", trained).out
    assert "promoted" in next(line for line in table.splitlines() if older["model"] in line)
    assert command("score", "--memory", trained, "--json").document["model"] == older["model"]
    again = command("promote", "--force", "--memory", trained)
    assert f"{newest['model']} is in use now" in again.out


def test_models_marks_models_with_missing_files(trained: Path, command: Callable[..., Any], tmp_path: Path) -> None:
    newest = command("models", "--memory", trained, "--json").document[0]
    folder = trained / newest["path"]
    shutil.move(folder, tmp_path / "elsewhere")
    try:
        assert command("models", "--memory", trained, "--json").document[0]["here"] is False
        assert f"the files of {newest['model']} are not here; copy" in command("models", "--memory", trained).out
        refused = command("score", "--model", newest["model"], "--memory", trained)
        assert refused.code == 1
        assert "its files are not here" in refused.err
    finally:
        shutil.move(tmp_path / "elsewhere", folder)


def test_abstention_withholds_or_shrinks_rewards(trained: Path, command: Callable[..., Any], tmp_path: Path) -> None:
    file, out = tmp_path / "new.jsonl", tmp_path / "scores.jsonl"
    rows = [
        {"query": f"Tom has {n} pears and picks 9 more. How many?", "dataset": "sums", "policy": "small", "answer": a}
        | {"thinking": f"{n} + 9 = {a}.", "sample_index": sample, "run": "new"}
        for n in range(20, 24)
        for sample, a in enumerate((str(n + 9), str(n + 8)))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("score", file, "--memory", trained, "--output", out, "--band", 0.5)
    withheld = command(*words, "--abstain", "withhold", "--json").document
    assert (withheld["abstained"], withheld["band"]) == (8, 0.5)
    assert all(line["reward"] is None and line["source"] == "abstained" for line in lines(out))
    assert all(0 < line["probability"] < 1 for line in lines(out))
    assert "8 uncertain: their probability is within 0.500 of 0.5" in command(*words, "--abstain", "shrink").out
    shrunk = lines(out)
    assert {line["source"] for line in shrunk} == {"shrunk"}
    for pair in zip(shrunk[::2], shrunk[1::2], strict=True):
        assert pair[0]["reward"] == pytest.approx((pair[0]["probability"] + pair[1]["probability"]) / 2)
        assert pair[0]["reward"] == pair[1]["reward"]


def test_abstention_needs_an_output_and_a_mode(trained: Path, command: Callable[..., Any], tmp_path: Path) -> None:
    without = command("score", "--abstain", "shrink", "--memory", trained)
    assert (without.code, without.out) == (2, "")
    assert "--output" in without.err
    invalid = command("score", "--risk", 0.2, "--output", tmp_path / "s.jsonl", "--memory", trained)
    assert invalid.code == 2
    assert "--abstain withhold" in invalid.err


def test_a_file_is_scored_with_stored_rollouts_only_on_request(
    trained: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(trained, tmp_path / "memory")
    file, out = tmp_path / "new.jsonl", tmp_path / "scores.jsonl"
    # Without a gold or labels, so that no verdict on the answer is remembered.
    row = {"query": "Anna has 70 pears and buys 8 more. How many?", "dataset": "sums", "answer": "78"}
    stored = [row | {"policy": "small", "thinking": f"Try {n}.", "sample_index": n, "run": "open"} for n in range(4)]
    file.write_text("".join(json.dumps(one) + "\n" for one in stored))
    assert command("ingest", file, "--memory", folder).code == 0
    file.write_text(json.dumps(row | {"policy": "new", "thinking": "Easy."}) + "\n")
    found = []
    for more in ((), ("--as-ingested",)):
        done = command("score", file, "--memory", folder, "--output", out, *more)
        assert "alone" not in done.err
        (line,) = lines(out)
        assert line["source"] == "predicted"
        found.append(line["probability"])
    assert found[0] != pytest.approx(found[1])
    row |= {"policy": "another"}
    file.write_text(file.read_text() + json.dumps(row) + "\n")
    assert "warning: 2 of the rollouts are alone in their group" in command("score", file, "--memory", folder).err
    assert "alone" not in command("score", file, "--as-ingested", "--memory", folder).err
    invalid = command("score", "--as-ingested", "--memory", folder)
    assert (invalid.code, invalid.out) == (2, "")
    assert "needs a FILE" in invalid.err


def test_a_file_of_another_layout_is_scored_by_its_paths(
    trained: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    own, other = tmp_path / "own.jsonl", tmp_path / "other.jsonl"
    texts = {"query": "Anna has 70 pears and buys 8 more. How many?", "response": "70 + 8\n#### 78"}
    own.write_text(json.dumps(texts | {"policy": "small", "run": "r"}) + "\n")
    row = {"doc": {"q": texts["query"]}, "texts": [texts["response"]], "who": {"name": "small", "run": "r"}}
    other.write_text(json.dumps(row) + "\n")
    paths = "query=doc.q,response=texts.0,policy=who.name,run=who.run"
    lines = []
    for file, more in ((own, ()), (other, ("--map", paths))):
        out = tmp_path / f"{file.stem}.scores"
        assert command("score", file, *more, "--memory", trained, "--output", out).code == 0
        lines.append(json.loads(out.read_text()))
    assert lines[0] == lines[1]
    assert "choose the values with" in command("score", other, "--memory", trained).err
    absent = command("score", other, "--map", "query=doc.q,response=texts.7", "--memory", trained)
    assert "no row of other.jsonl has 'texts.7', which --map names for response" in absent.err
    alone = command("score", "--map", paths, "--memory", trained)
    assert (alone.code, alone.out) == (2, "")
    assert "--map needs a FILE" in alone.err


def test_drift_is_warned_of_once_and_is_in_the_document(
    trained: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    rows = [
        {"query": f"Write a poem on the number {n}, in several verses.", "dataset": "poems", "policy": "small"}
        | {"thinking": "Roses are red. " * 60, "answer": "", "sample_index": 0, "run": "poems"}
        for n in range(12)
    ]
    file = tmp_path / "poems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command("score", file, "--memory", trained, "--json")
    assert done.document["drift"]["drifted"] is True
    (found,) = done.document["drift"]["datasets"]
    assert (found["dataset"], found["queries"], found["against"]) == ("poems", 12, "")
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert "the 12 queries of 'poems' differ from all " in warning
    assert "label some of them and train again" in warning
    inside = command("score", "--memory", trained, "--json")
    assert inside.document["drift"]["datasets"][0]["dataset"] == "sums"
