"""`find_rollout`: by id, prefix, or query and origin; ambiguous names are errors."""

from __future__ import annotations

from typing import Any

import pytest

from memstore.errors import InputError
from memstore_gnn.explain.find import Who, find_rollout


def test_by_its_id_and_by_the_beginning_of_it(planted: Any) -> None:
    row = planted.row(planted.scored)
    assert find_rollout(planted.snapshot, planted.scored) == row
    assert find_rollout(planted.snapshot, planted.scored[:12]) == row


def test_by_the_query_and_who_wrote_it(planted: Any) -> None:
    row = find_rollout(planted.snapshot, "word-7", Who(policy="large", sample_index=3))
    found = planted.snapshot.thinkings.slice(row, 1).to_pylist()[0]
    assert (found["query_key"], found["policy"], found["sample_index"]) == ("word-7", "large", 3)
    query = planted.snapshot.queries["id"][planted.snapshot.queries["key"].to_pylist().index("word-7")].as_py()
    assert find_rollout(planted.snapshot, query, Who(run="run", sample_index=3)) == row


def test_several_are_listed(planted: Any) -> None:
    with pytest.raises(InputError, match=r"4 rollouts are called 'word-7'; say which .*t-\w+ \(policy (small|large), "):
        find_rollout(planted.snapshot, "word-7")
    with pytest.raises(InputError, match="2 rollouts are called 'word-7'"):
        find_rollout(planted.snapshot, "word-7", Who(policy="large"))
    with pytest.raises(InputError, match="no rollout or query 't-'"):
        find_rollout(planted.snapshot, "t-")


def test_none_of_the_query_fits(planted: Any) -> None:
    with pytest.raises(InputError, match="none of the rollouts of 'word-7' has policy huge, step 3; there are t-"):
        find_rollout(planted.snapshot, "word-7", Who(policy="huge", step=3))


def test_what_is_spelt_alike_is_named(planted: Any) -> None:
    with pytest.raises(InputError, match=r"no rollout or query 'wrod-7'; did you mean .*word-7"):
        find_rollout(planted.snapshot, "wrod-7")
    wrong = planted.scored[:-1] + ("0" if planted.scored[-1] != "0" else "1")
    with pytest.raises(InputError, match=f"did you mean {planted.scored}"):
        find_rollout(planted.snapshot, wrong)
    with pytest.raises(InputError, match="no rollout or query '%%%'; take an id from"):
        find_rollout(planted.snapshot, "%%%")
