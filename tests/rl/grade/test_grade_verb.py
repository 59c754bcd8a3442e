"""`memstore grade`: JSON document, table, plot and errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from memstore.sample import sample_path
from memstore_cli.main import run
from memstore_rl.grade.sample_writer import KEYS

DOCS = Path(__file__).resolve().parents[3] / "docs"
FILE = str(sample_path())


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["grade", FILE, *words, "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    found: dict[str, Any] = json.loads(printed.out)
    return found


def test_the_json_document_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--policy", "tiny-arithmetic@6000", "--against", FILE, "--against-policy", "tiny-arithmetic@2400")
    found = document(capsys, *words, "-k", "1", "-k", "8", "-k", "9")
    page = (DOCS / "grade.md").read_text(encoding="utf-8").split("## Output")[1]
    cells = "\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("|"))
    documented = set(re.findall(r"`([a-z_]+)`", cells))
    assert documented == set(found)
    for part in ("policies", "gaps", "lines", "figures", "comparison"):
        assert part in page
    [policy] = found["policies"]
    own = [*policy, *policy["lines"][0], *policy["lines"][0]["figures"]["accuracy"], *policy["gaps"][0]]
    for key in [*own, *found["comparison"][0], *found["comparison"][0]["figures"]["pass@8"]]:
        assert re.search(rf"\b{key}\b", page), f"docs/grade.md does not name {key}"
    assert found["against"]["step"] == 2400
    difference = found["comparison"][0]["figures"]["accuracy"]["difference"]
    assert difference == pytest.approx(
        policy["lines"][0]["figures"]["accuracy"]["value"]
        - found["against"]["lines"][0]["figures"]["accuracy"]["value"]
    )


def test_the_same_seed_gives_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--policy", "tiny-arithmetic@6000")
    assert document(capsys, *words, "--seed", "4") == document(capsys, *words, "--seed", "4")
    other = document(capsys, *words, "--seed", "5")
    assert other != document(capsys, *words, "--seed", "4")


def test_the_table_has_every_policy_and_the_notes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot, samples = tmp_path / "score.png", tmp_path / "samples.jsonl"
    assert run(["grade", FILE, "-k", "1", "-k", "16", "--plot", str(plot), "--samples", str(samples)]) == 0
    out = capsys.readouterr().out
    assert "tiny-arithmetic@2400" in out
    assert "tiny-arithmetic@6000" in out
    assert "no query of tiny-arithmetic@2400 on arithmetic has 16 judged samples" in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 6_400
    assert all(tuple(line) == KEYS for line in lines)


def test_many_metrics_get_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["grade", FILE, *(word for k in (1, 2, 4, 8) for word in ("-k", str(k)))]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert len(re.findall(r"majority@4 +400 +[0-9.]+ +[0-9.]+–[0-9.]+", out)) == 2


def test_several_policies_are_plotted(tmp_path: Path) -> None:
    rows = [
        {
            "query": f"{n}?",
            "dataset": f"set{n % 2}",
            "gold": "1",
            "domain": "math",
            "answer": str(n % 3),
            "policy": policy,
        }
        for n in range(12)
        for policy in ("a", "b")
    ]
    file = tmp_path / "rollouts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name in ("score.png", "score.svg"):
        assert run(["grade", str(file), "-k", "1", "-k", "2", "--plot", str(tmp_path / name)]) == 0
    svg = (tmp_path / "score.svg").read_text(encoding="utf-8")
    assert svg.lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--against-policy", "x"], 2, "also pass --against FILE"),
        (["-k", "0"], 2, "-k"),
        (["--plot", "picture.txt"], 1, "its name must end in .png"),
        (["--against", FILE], 1, "holds 2 policies (tiny-arithmetic@2400"),
        (["--policy", "nobody"], 1, "no rollout of policy 'nobody'"),
    ],
)
def test_errors_are_one_sentence(capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str) -> None:
    assert run(["grade", FILE, *words]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
