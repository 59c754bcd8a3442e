"""`find_rollout`: by id, prefix, or query and origin; ambiguous names are errors."""

from __future__ import annotations

from typing import Any

import pytest

from memstore.errors import InputError
from memstore.snapshots.aliases import first_keys
from memstore_gnn.explain.find import RolloutFilter, find_rollout


def test_by_id_and_by_prefix(planted: Any) -> None:
    row = planted.row(planted.scored)
    assert find_rollout(planted.snapshot, planted.scored) == row
    assert find_rollout(planted.snapshot, planted.scored[:12]) == row


def test_by_query_and_origin(planted: Any) -> None:
    row = find_rollout(planted.snapshot, "word-7", RolloutFilter(policy="large", sample_index=3))
    found = planted.snapshot.thinkings.slice(row, 1).to_pylist()[0]
    assert (found["query_key"], found["policy"], found["sample_index"]) == ("word-7", "large", 3)
    query = planted.snapshot.queries["id"][first_keys(planted.snapshot).index("word-7")].as_py()
    assert find_rollout(planted.snapshot, query, RolloutFilter(run="run", sample_index=3)) == row


def test_several_matches_are_listed(planted: Any) -> None:
    with pytest.raises(
        InputError, match=r"4 rollouts match 'word-7'; give the policy, .*t-\w+ \(policy (small|large), "
    ):
        find_rollout(planted.snapshot, "word-7")
    with pytest.raises(InputError, match="2 rollouts match 'word-7'"):
        find_rollout(planted.snapshot, "word-7", RolloutFilter(policy="large"))
    with pytest.raises(InputError, match="no rollout or query 't-'"):
        find_rollout(planted.snapshot, "t-")


def test_no_rollout_of_the_query_matches(planted: Any) -> None:
    with pytest.raises(InputError, match="none of the rollouts of 'word-7' has policy huge, step 3; choose one of t-"):
        find_rollout(planted.snapshot, "word-7", RolloutFilter(policy="huge", step=3))


def test_similar_names_are_suggested(planted: Any) -> None:
    with pytest.raises(InputError, match=r"no rollout or query 'wrod-7'; did you mean .*word-7"):
        find_rollout(planted.snapshot, "wrod-7")
    wrong = planted.scored[:-1] + ("0" if planted.scored[-1] != "0" else "1")
    with pytest.raises(InputError, match=f"did you mean {planted.scored}"):
        find_rollout(planted.snapshot, wrong)
    with pytest.raises(InputError, match="no rollout or query '%%%'; pass an id"):
        find_rollout(planted.snapshot, "%%%")
