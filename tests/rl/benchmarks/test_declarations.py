"""Declarations of benchmarks: valid ones, and the errors for invalid ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl.benchmarks import questions, read_declaration, sample

RIVERS = """
domain = "qa"
source = "./rivers.csv"
query = "Which river is longer?"
choices = ["{first}", "{second}"]
gold = "{longer}"
key = "{number}"
licence = "CC0-1.0"
link = "https://example.org/rivers"
""".replace("Which river", "By the map of {map}: which river")
TABLE = "number,map,first,second,longer\n1,1900,Ebro,Po,Ebro\n2,1900,Rhine,Oder,Oder\n3,,Oder,Elbe,B\n"


@pytest.fixture
def rivers(tmp_path: Path) -> Path:
    (tmp_path / "rivers.csv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "rivers.toml").write_text(RIVERS, encoding="utf-8")
    return tmp_path / "rivers.toml"


def test_a_valid_declaration(rivers: Path) -> None:
    assert len(RIVERS.splitlines()) <= 10
    found = {question.key: question for question in questions(str(rivers))}
    assert found["2"].text == "By the map of 1900: which river is longer?\n\n(A) Rhine\n(B) Oder"
    assert {key: question.gold for key, question in found.items()} == {"1": "A", "2": "B", "3": "B"}
    assert {(question.dataset, question.domain) for question in found.values()} == {("rivers", "qa")}


def test_the_docs_show_the_same_declaration() -> None:
    page = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    shown = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    assert len(shown[1].splitlines()) <= 10


def test_the_example_of_the_docs_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    toml, rows = re.findall(r"```(?:toml|json)\n(.*?)```", page, re.DOTALL)[:2]
    (tmp_path / "rivers.toml").write_text(toml, encoding="utf-8")
    (tmp_path / "rivers.jsonl").write_text(rows, encoding="utf-8")
    assert len(questions(str(tmp_path / "rivers.toml"))) == len(rows.splitlines())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("licens = 'MIT'", "unknown key 'licens'; did you mean licence?"),
        ("sample = 0", "sample is 0; it must be over 0"),
        ("sample = true", "sample is True; it must be over 0"),
        ("shuffle = 1", "shuffle is 1; it must be true or false"),
        ("splits = []", r"splits is \[\]; it must be text"),
        ("labels = 3", "labels is 3; it must be text or a list of texts"),
        ("system = ' '", "system is ' '; it must be text"),
        ("solution = '{longer}'", "both gold and solution are given"),
        ("prompt = 'Answer.'", r"prompt does not contain \{query\}"),
        ("= 3", "is not TOML"),
    ],
)
def test_invalid_keys_and_values_are_rejected(rivers: Path, change: str, sentence: str) -> None:
    rivers.write_text(f"{RIVERS}\n{change}\n", encoding="utf-8")
    with pytest.raises(InputError, match=sentence) as raised:
        read_declaration(rivers)
    assert str(raised.value).startswith(str(rivers))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('domain = "qa"', 'domain = "quiz"', "domain is 'quiz'; it must be one of math, qa, code, other"),
        ('domain = "qa"', "", "required keys are missing: domain"),
        ("{map}", "1900", "query contains no column"),
        ('choices = ["{first}", "{second}"]', "shuffle = true", "labels and shuffle need choices"),
        ('gold = "{longer}"', 'solution = "{longer}"', "solution is supported for domain math only"),
    ],
)
def test_incomplete_declarations_are_rejected(rivers: Path, old: str, new: str, sentence: str) -> None:
    rivers.write_text(RIVERS.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read_declaration(rivers)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "{longer}",
            "{longest}",
            "rivers uses the column 'longest', which its source lacks; it has number, map, first",
        ),
        ("./rivers.csv", "./streams.csv", "streams.csv does not exist; check `source`"),
        ("./rivers.csv", "./rivers.toml", "must end in .jsonl, .json, .csv, .parquet"),
        ("{longer}", "{number}", "no row of rivers gives a question: 3 have no gold answer"),
    ],
)
def test_a_declaration_that_does_not_fit_its_rows(rivers: Path, old: str, new: str, sentence: str) -> None:
    rivers.write_text(RIVERS.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        questions(str(rivers))


def declared(folder: Path, rows: list[dict[str, Any]], **said: Any) -> str:
    """A declaration and its rows, as JSON lines."""
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [f"{name} = {json.dumps(value)}" for name, value in ({"source": "./own.jsonl"} | said).items()]
    (folder / "own.toml").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "own.toml")


def test_row_values_are_not_interpreted_as_templates(tmp_path: Path) -> None:
    rows = [{"q": "What is {gold}?", "gold": "secret"}]
    source = declared(tmp_path, rows, domain="other", query="{q}", gold="{gold}", prompt="Say: {query}")
    assert questions(source)[0].prompt == "Say: What is {gold}?"


def test_a_declaration_without_gold_gives_questions(tmp_path: Path) -> None:
    found = questions(declared(tmp_path, [{"q": "What is best?"}], domain="other", query="{q}", system="Be brief."))
    assert (found[0].gold, found[0].system, found[0].prompt) == (None, "Be brief.", "What is best?")


def test_options_that_cannot_be_read_back_are_skipped(tmp_path: Path) -> None:
    rows = [
        {"q": "Which?", "options": ["one", "two"], "right": "A"},
        {"q": "Which\nof these?", "options": ["one", ""], "right": "A"},
        {"q": "Which?", "options": ["only"], "right": "A"},
        {"q": "Which of many?", "options": ["x"] * 27, "right": "A"},
    ]
    source = declared(tmp_path, rows, domain="qa", query="{q}", choices="options", gold="{right}")
    assert [question.text for question in questions(source)] == ["Which?\n\n(A) one\n(B) two"]


def test_incomplete_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    whole = {"q": "Which?", "a": {"text": ["red", "blue"], "label": ["x", "y"]}, "right": "y"}
    rows = [whole, whole | {"a": None}, whole | {"right": None}, whole | {"q": " "}, whole | {"q": "W\0?"}]
    source = declared(tmp_path, rows, domain="qa", query="{q}", choices="a.text", labels="a.label", gold="{right}")
    drawn = sample(read_declaration(Path(source)))
    assert [question.gold for question in drawn.questions] == ["B"]
    assert drawn.left_out == {
        "have no options, or an empty one": 1,
        "have no query": 1,
        "contain a NUL character, which memories reject": 1,
    }, "a repeated query is read once"


def test_equal_options_keep_the_intended_letter(tmp_path: Path) -> None:
    rows = [{"q": "Which?", "a": {"text": ["red", "blue", "red"], "label": ["x", "y", "z"]}, "right": "z"}]
    source = declared(tmp_path, rows, domain="qa", query="{q}", choices="a.text", labels="a.label", gold="{right}")
    assert questions(source)[0].gold == "C"


def test_the_marked_answer_of_a_worked_solution(tmp_path: Path) -> None:
    rows = [{"q": "1?", "s": "So \\boxed{1}, or \\boxed{\\frac{1}{2}}."}, {"q": "2?", "s": "So it is 2."}]
    source = declared(tmp_path, rows, domain="math", query="{q}", solution="{s}")
    assert [question.gold for question in questions(source)] == ["\\frac{1}{2}"]
