"""docs/queries.md documents every named query with its current text and an example output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memstore_schema.queries import NamedQuery, named_queries

PAGE = Path(__file__).resolve().parents[2] / "docs" / "queries.md"


def sections() -> dict[str, str]:
    found = re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return dict(found)


def test_the_page_lists_all_named_queries() -> None:
    assert list(sections()) == [query.name for query in named_queries()]


@pytest.mark.parametrize("query", named_queries(), ids=lambda query: query.name)
def test_a_query_is_documented_with_text_parameters_and_output(query: NamedQuery) -> None:
    section = sections()[query.name]
    assert f"```cypher\n{query.text.strip()}\n```" in section, "run docs/make_pages.py"
    for parameter in query.parameters:
        assert f"`{parameter}`" in section or f"--param {parameter}=" in section
    output = re.search(rf"```console\n\$ memstore cypher --query {query.name}\b.*\n(.+?)```", section, re.DOTALL)
    assert output, "run docs/make_pages.py"
    assert re.search(r"\d+ rows?$|^the first \d+ rows;", output[1].strip(), re.MULTILINE)
