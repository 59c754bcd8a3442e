"""Reading columns larger than those of the conformance suite."""

from __future__ import annotations

import pyarrow as pa

from memstore.graph.ladybug.read import take_rows
from memstore.graph.ladybug.statements import CHUNK_ROWS


def test_rows_with_more_text_than_an_arrow_chunk_holds_are_split() -> None:
    count = CHUNK_ROWS + 10
    table = pa.table({"id": [f"t{i}" for i in range(count)], "step": pa.array([None, *range(1, count)], pa.int64())})
    order = pa.array(range(count - 1, -1, -1))
    found = take_rows(table, order, limit=1000)
    assert found.schema == table.schema
    assert found["id"].num_chunks == 2
    assert found.combine_chunks() == take_rows(table, order).combine_chunks()
