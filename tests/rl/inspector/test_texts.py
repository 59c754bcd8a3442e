"""Texts, differences and background values, without a memory."""

from __future__ import annotations

from typing import Any

import pytest

from memstore_rl.inspector.charts import Point, bar, line_chart
from memstore_rl.inspector.cypher_results import csv_lines
from memstore_rl.inspector.differences import central, difference
from memstore_rl.inspector.texts import cut, one_line, pieces


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain", [("prose", "plain")]),
        ("a $x^2$ b", [("prose", "a "), ("math", "x^2"), ("prose", " b")]),
        ("$$a\nb$$", [("display", "a\nb")]),
        (r"\[a\] and \(b\)", [("display", "a"), ("prose", " and "), ("math", "b")]),
        ("it costs $5 and $6 more", [("prose", "it costs $5 and $6 more")]),
        ("from $5 to $x", [("prose", "from $5 to $x")]),
        ("```python\nx = '$a$'\n```\nend", [("code", "x = '$a$'\n"), ("prose", "\nend")]),
        ("```\nnever closed", [("code", "never closed")]),
        (r"\$5 and \$6", [("prose", r"\$5 and \$6")]),
        ("", []),
    ],
)
def test_pieces(text: str, found: list[tuple[str, str]]) -> None:
    assert [(piece.kind, piece.text) for piece in pieces(text)] == found
    assert "".join(piece.source for piece in pieces(text)) == text


def test_cuts_and_lines() -> None:
    assert cut("abc", 2).is_cut
    assert not cut(None, 2).is_cut
    assert one_line("a\n b " + "x" * 1000, 10) == "a b xxxxx…"


def test_the_central_text_shares_most_words() -> None:
    assert central(["one two", "one two three", "other words"]) == 0
    assert central(["alone"]) == 0


def test_a_difference_folds_equal_lines() -> None:
    found = difference("a\nb\nc\nd", "a\nb\nx\nd")
    assert [(line.kind, line.text, line.lines) for line in found] == [
        ("same", "a", 2),
        ("removed", "c", 1),
        ("added", "x", 1),
        ("same", "d", 1),
    ]
    assert [line.text for line in difference("One. Two. Three.", "One. 2. Three.") if line.kind == "added"] == ["2."]


def test_charts_escape_and_bound() -> None:
    chart = line_chart({"<b>": [Point(0, 0.1), Point(5, 0.9)]}, title="<t>", x_name="x", y_name="y", y_range=(0, 1))
    assert "<b>" not in chart
    assert "&lt;b&gt;: 0.10 at 0, 0.90 at 5" in chart
    assert 'width="100.0"' in bar(7.0, "votes", "many")
    single = line_chart({"a": [Point(7, 0.5)]}, title="t", x_name="x", y_name="y", y_range=(0, 1))
    assert single.count(">7</text>") == 1
    assert line_chart({}, title="t", x_name="x", y_name="y", y_range=(0, 1)) == ""


def test_a_spreadsheet_runs_nothing() -> None:
    rows: list[tuple[Any, ...]] = [("=1+1",), (["x"],), (-3,)]
    assert "".join(csv_lines(["a"], rows)) == 'a\n\'=1+1\n"[""x""]"\n-3\n'
