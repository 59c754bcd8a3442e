"""Reading the texts of a snapshot in blocks gives the features of reading all at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.features import assemble


def test_blocks_of_queries_have_the_features_of_the_whole(
    make_world: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = make_world()
    whole = assemble.compute_group_features(snapshot)
    monkeypatch.setattr(assemble, "BLOCK_ROLLOUTS", snapshot.thinkings.num_rows // 3)
    blocks = assemble.compute_group_features(snapshot)
    assert blocks.table.names == whole.table.names
    assert np.array_equal(blocks.table.values, whole.table.values)
    assert np.array_equal(blocks.groups.answer.cell, whole.groups.answer.cell)
