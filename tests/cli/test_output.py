"""Values in JSON, CSV and table cells."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys

import pytest

from memstore_cli.cypher import Format, print_rows
from memstore_cli.output import WIDTH, cell, jsonable, print_json, print_table

VALUES = [
    (None, None, ""),
    (True, True, "true"),
    (7, 7, "7"),
    (0.30000001192092896, 0.30000001192092896, "0.3"),
    (float("nan"), None, "nan"),  # JSON has no NaN
    (float("inf"), None, "inf"),
    ("two\nlines", "two\nlines", "two lines"),
    (b"\x01\xff", "01ff", "01ff"),
    (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05+00:00"),
    (
        {"id": "q-1", "scores": [1.0, float("nan")]},
        {"id": "q-1", "scores": [1.0, None]},
        '{"id": "q-1", "scores": [1.0, null]}',
    ),
    (("é", 1), ["é", 1], '["é", 1]'),
]


@pytest.mark.parametrize(("value", "as_json", "as_cell"), VALUES)
def test_value_as_json_and_as_cell(value: object, as_json: object, as_cell: str) -> None:
    assert jsonable(value) == as_json
    assert cell(value) == as_cell


def test_print_json_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": "é"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": "é"}


def test_a_table_fits_the_terminal_and_does_not_interpret_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(("id", "text", "score"), [("[red]q-1[/red]", "x" * 500, 0.1234), ("q-2", None, 1)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 40
    assert any("[red]q-1[/red]" in line and "…" in line and "0.1234" in line for line in lines)


def test_a_table_in_a_pipe_keeps_headers_ids_numbers_and_short_texts(capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("rollout", "query", "dataset", "policy", "probability", "model", "text")
    row = (
        "t-71a1a6ea8ef02c35499ab937",
        "q-e8b36a31f8530582b388e330",
        "d" * 40,
        "p" * 40,
        0.004079,
        "m" * 40,
        "x" * 500,
    )
    print_table(columns, [row])
    header, _, line = capsys.readouterr().out.splitlines()
    assert tuple(header.split()) == columns
    assert line.split()[:6] == ["0.004079" if value == 0.004079 else value for value in row[:6]]
    assert line.split()[6] == "x" * 39 + "…"


def test_a_table_in_a_pipe_is_not_wider_than_necessary(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("n", "text"), [(1, "x" * 500)])
    assert {len(line.rstrip()) for line in capsys.readouterr().out.splitlines()[2:]} == {WIDTH}


def test_csv_holds_structured_values_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["id", "list"], [("q,1", ["é"]), (None, {"a": 1})], Format.CSV, limit=2)
    assert capsys.readouterr().out == 'id,list\n"q,1","[""é""]"\n,"{""a"": 1}"\n'


def test_a_table_that_is_cut_has_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(["n"], [(number,) for number in range(4)], Format.TABLE, limit=3)
    out = capsys.readouterr().out
    assert "first 3 rows" in out
    assert "--limit" in out
    print_rows(["n"], [(number,) for number in range(3)], Format.TABLE, limit=3)
    assert capsys.readouterr().out.rstrip().endswith("3 rows")
