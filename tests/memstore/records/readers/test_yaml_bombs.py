"""Hostile YAML: what it expands to, its nesting and its length are bounded, and no code in it runs."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from memstore.records.readers import open_source, yaml_items
from memstore.records.readers.yaml_items import MAX_DEPTH, yaml_rows
from memstore.records.record import Row

GOOD = "- query: '2 + 3?'\n  answer: '5'\n  thinking: ''\n"


def rows(tmp_path: Path, text: str) -> list[Row]:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return list(open_source(path))


def laughs(levels: int, each: int = 9) -> str:
    """An item with nested lists of aliases: `each` to the power of `levels` texts."""
    text = "- a0: &a0 [lol]\n"
    for level in range(1, levels):
        text += f"  a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * each)}]\n"
    return text


@pytest.mark.parametrize("levels", [9, 90])
def test_aliases_of_aliases_are_not_expanded(tmp_path: Path, levels: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    found = rows(tmp_path, GOOD + laughs(levels) + GOOD)
    assert [row.reason for row in found[1:]] == [
        "the aliases expand the file more than 100-fold, which rollouts do not; reading ended here"
    ]
    assert found[0].values is not None
    assert found[1].number == 4
    # 9 to the power of 8 texts would take minutes, and 90 levels would never end.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - used < 60


def test_aliases_of_items_before_count_for_the_file(tmp_path: Path) -> None:
    items = "".join(f"- b: [{', '.join(['*a'] * 30)}]\n" for _ in range(2_000))
    found = rows(tmp_path, f"- a: &a [{'x, ' * 400}x]\n{items}")
    assert "more than 100-fold" in (found[-1].reason or "")
    assert 2 < len(found) < 2_000


@pytest.mark.parametrize("item", ["- &a [*a]\n", "- &a {b: *a}\n", "- a: &a\n    b: {c: [1, *a]}\n"])
def test_an_alias_of_itself_is_refused(tmp_path: Path, item: str) -> None:
    found = rows(tmp_path, GOOD + item + GOOD)
    assert [row.reason for row in found] == [
        None,
        "the item has a value that is not read: an alias that refers to itself, or to too many levels",
        None,
    ]


@pytest.mark.parametrize("brackets", ["[]", "{}", ("- ", ""), ("? ", ""), ("[{a: ", "}]")])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 20_000])
def test_deep_nesting_ends_the_reading(tmp_path: Path, brackets: str, depth: int) -> None:
    found = rows(tmp_path, f"{GOOD}- a: \n    {brackets[0] * depth}{brackets[1] * depth}\n{GOOD}")
    assert len(found) == 2
    assert found[0].values is not None
    assert "reading ended here" in (found[1].reason or "")


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("- !!python/object/apply:os.system ['touch x']\n", "the tag '!!python/object/apply:os.system'"),
        ("- a: !!python/name:os.system ''\n", "could not determine a constructor"),
        ("- a: !!python/object/new:os.system {}\n", "the tag '!!python/object/new:os.system'"),
        ("- a: !!set {b, c}\n", "the tag '!!set'"),
        ("- a: !!binary aGVsbG8=\n", "the tag '!!binary'"),
        ("- {<<: {a: b}}\n", "!!merge"),
        ("- a: !!int 'x'\n", "invalid literal"),
        ("- a: 2026-99-99\n", "month"),
        (f"- a: {'1' * 5_000}\n", "a number of 5,000 characters"),
        (f"- a: 1{':1' * 200_000}\n", "a number of 400,001 characters"),
        ("- - b\n", "the item is an array, not an object"),
    ],
)
def test_values_that_json_lacks_are_refused_one_by_one(tmp_path: Path, item: str, problem: str) -> None:
    found = rows(tmp_path, GOOD + item + GOOD)
    assert [row.values is None for row in found] == [False, True, False]
    assert problem in (found[1].reason or "")
    assert "\n" not in (found[1].reason or "")
    assert not Path("x").exists()


def test_an_endless_item_is_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_items, "MAX_VALUE", 2**20)
    given = 0

    def blocks() -> Iterator[bytes]:
        nonlocal given
        yield (GOOD + '- query: "').encode()
        while True:
            given += 1
            yield b"x" * 2**16

    found = list(yaml_rows(blocks()))
    assert [row.reason for row in found] == [None, "the item is longer than 1 MB; reading ended here"]
    assert given < 40


def test_anchors_that_later_items_may_need_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_items, "MAX_VALUE", 2**20)
    text = "".join(f"- a: &a{number} {'x' * 1_000}\n" for number in range(2_000))
    found = list(yaml_rows(iter([text.encode()])))
    assert found[-1].reason == "the anchors hold over 1 MB; reading ended here"
    assert 900 < len(found) < 1_100


@pytest.mark.parametrize("broken", [b"- a: b\n\xff\n", b"- a: b\n- c: *d\n", b"- a: b\n- 'c\n", b"- a: b\n\x00"])
def test_broken_text_ends_the_reading(broken: bytes) -> None:
    *_, last = yaml_rows(iter([broken]))
    assert (last.reason or "").endswith("reading ended here")
    assert "\n" not in (last.reason or "")


def test_pythons_own_parser_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD + "- a: &a {b: [1, 2.5, null, true]}\n  c: *a\n---\nd: 2026-12-01\n" + laughs(3)
    expected = rows(tmp_path, text)
    monkeypatch.setattr(yaml_items, "_LOADER", yaml.SafeLoader)
    assert [row.values for row in rows(tmp_path, text)] == [row.values for row in expected]
    assert expected[1].values == {"a": {"b": [1, 2.5, None, True]}, "c": {"b": [1, 2.5, None, True]}}
