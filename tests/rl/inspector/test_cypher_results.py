"""Results of Cypher on pages and in files: limits of rows, bytes and time, and bad parameters."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import time
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import httpx
import pytest

from memstore.errors import InputError, QueryTimeout
from memstore.memory import Memory
from memstore_rl.inspector.cypher_parameters import parse_parameters
from memstore_rl.inspector.cypher_results import (
    PAGE_BYTES,
    PAGE_ROWS,
    FileKind,
    Result,
    file_of,
    first_rows,
    run,
    until,
)
from memstore_rl.inspector.source import MemorySource


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 9_000, "nested too deep"),
        ('{"a": ' + "[" * 9_000 + "]" * 9_000 + "}", "nested too deep"),
        ('{"a": ' + "[" * 30 + "]" * 30 + "}", "at most 20 lists"),
        ('{"a": ' + "9" * 5_000 + "}", "99999999999999999999… of the parameters does not fit into 64 bits"),
        ('{"a": [9223372036854775808]}', "does not fit into 64 bits"),
        ('{"a": {"b": -9223372036854775809}}', "does not fit into 64 bits"),
        (r'{"a": "\ud800"}', "not Unicode"),
        (r'{"\ud800": 1}', "not Unicode"),
        ('{"a": NaN}', "write a finite one"),
        ('{"a": 1e999}', "write a finite one"),
        ("{", "not JSON"),
        ("[]", "no JSON object"),
    ],
)
def test_bad_parameters(web: httpx.Client, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parse_parameters(text)
    answer = web.get("/cypher/result.json", params={"query": "RETURN $a AS a", "parameters": text})
    assert (answer.status_code, sentence in answer.text) == (400, True), answer.text


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), "😀", 1.5, [1, 2], None, True])
def test_good_parameters_reach_the_store(web: httpx.Client, value: Any) -> None:
    asked = {"query": "RETURN $a AS a", "parameters": json.dumps({"a": value})}
    assert web.get("/cypher/result.json", params=asked).json() == [{"a": value}]


def test_two_columns_of_one_name_are_refused(web: httpx.Client) -> None:
    for path in ("/cypher", "/cypher/result.json", "/cypher/result.csv"):
        answer = web.get(path, params={"query": "RETURN 1 AS a, 2 AS a"})
        assert "2 columns of the result are named a; give each its own name with AS" in answer.text


def test_numbers_that_are_not_finite_are_null(web: httpx.Client) -> None:
    asked = {"query": "RETURN CAST('inf' AS DOUBLE) AS a, [CAST('nan' AS DOUBLE)] AS b"}
    assert web.get("/cypher/result.json", params=asked).json() == [{"a": None, "b": [None]}]
    assert web.get("/cypher/result.csv", params=asked).text == "a,b\n,[null]\n"


def test_a_name_of_a_column_is_protected_from_spreadsheets() -> None:
    assert csv_of(["=1+1"], [("=2", -3, math.nan)]) == [["'=1+1"], ["'=2", "-3", ""]]


def csv_of(columns: list[str], rows: list[tuple[Any, ...]]) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file_of(Result(columns, iter(rows)), "csv").decode())))


@pytest.mark.parametrize("rows", [[], [("é\n",)], [("é",), (None,)]])
def test_a_json_file_is_json(rows: list[tuple[Any, ...]]) -> None:
    assert json.loads(file_of(Result(["a"], iter(rows)), "json")) == [{"a": value} for (value,) in rows]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_file_is_whole_or_refused(kind: FileKind) -> None:
    read = 0

    def endless() -> Iterator[tuple[str]]:
        nonlocal read
        for row in repeat(("é" * 500,)):
            read += 1
            yield row

    with pytest.raises(InputError, match=rf"longer than 10,000 bytes; .* memstore cypher --format {kind}"):
        file_of(Result(["a"], endless()), kind, most_bytes=10_000)
    assert read == 10
    with pytest.raises(InputError, match="longer than 10,000 bytes"):
        file_of(Result(["a"], iter([(["x" * 6_000] * 2,)])), kind, most_bytes=10_000)
    with pytest.raises(InputError, match="more than 5 rows; return fewer"):
        file_of(Result(["a"], endless()), kind, most_rows=5)


def test_a_page_shows_the_first_rows_that_fit() -> None:
    rows = [("x" * 60, {"y": ["z" * 30]})] * 3
    assert first_rows(iter(rows), 9, 1_000) == (rows, False)
    assert first_rows(iter(rows), 9, 200) == (rows[:2], True)
    assert first_rows(iter(rows), 9, 10) == (rows[:1], True)
    assert first_rows(iter(rows), 2, 1_000) == (rows[:2], True)


def test_a_page_says_its_limits(web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"query": "UNWIND range(1, 201) AS n RETURN n"}
    assert (
        "The first 200 rows; a page shows at most 200 rows, of 8 MiB together." in web.get("/cypher", params=asked).text
    )
    monkeypatch.setattr("memstore_rl.inspector.views.cypher.PAGE_ROWS", 3)
    monkeypatch.setattr("memstore_rl.inspector.views.cypher.PAGE_BYTES", 3 * 2**19)
    assert (
        "The first 3 rows; a page shows at most 3 rows, of 1.5 MiB together." in web.get("/cypher", params=asked).text
    )


def test_reading_the_rows_is_within_the_limit_of_time() -> None:
    with pytest.raises(QueryTimeout, match="10 s"):
        next(until(time.monotonic() - 1, [1]))
    assert list(until(time.monotonic() + 600, [1, 2])) == [1, 2]


def test_a_query_that_fails_in_the_store_stays_in_its_box(web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(query: str, sentence: str) -> None:
        page = web.get("/cypher", params={"query": query}, timeout=60)
        assert page.status_code == 200
        assert sentence in page.text
        assert f">{html.escape(query)}</textarea>" in page.text.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")

    check("RETURN repeat('a', 2000000000)", "more memory")
    monkeypatch.setattr("memstore_rl.inspector.cypher_results.TIMEOUT_S", 0.5)
    check("MATCH (a), (b), (c), (d), (e), (f) WHERE a.id < f.id RETURN count(*)", "match less, or return less")


def test_a_result_without_rows_ends_with_one_full_stop(web: httpx.Client) -> None:
    page = web.get("/cypher", params={"query": "MATCH (q:Query {id: 'none'}) RETURN q.id"})
    assert 'No rows.\n<a href="/inspect/cypher/result.csv' in page.text


def test_a_refused_file_ends_its_query(looked_at: Memory) -> None:
    wide = "UNWIND range(1, 200) AS n RETURN n, lpad('', 1000000, 'x') AS text"
    with pytest.raises(InputError, match="33,554,432 bytes"):
        file_of(run(MemorySource(looked_at), wide, ""), "json")
    rows, more = first_rows(run(MemorySource(looked_at), wide, "").rows, PAGE_ROWS, PAGE_BYTES)
    assert (len(rows), more) == (8, True)
    assert file_of(run(MemorySource(looked_at), "RETURN 1 AS a", ""), "csv") == b"a\n1\n"


def test_questions_that_the_page_does_not_know(web: httpx.Client) -> None:
    unknown = web.get("/cypher", params={"named": "nope"})
    assert (unknown.status_code, "no named query" in unknown.text) == (400, True)
    long = web.get("/cypher", params={"query": "RETURN 1 //" + "x" * 20_000})
    assert (long.status_code, "at most 20,000 characters" in long.text) == (400, True)
