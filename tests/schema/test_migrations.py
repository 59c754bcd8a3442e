"""Migrations give the declared columns, with the same numbers on every backend."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from memstore.graph.ladybug import LadybugGraph
from memstore_schema.columns import EDGE_COLUMNS, EDGE_ENDS, NODE_COLUMNS, SCHEMA_VERSION, TIME
from memstore_schema.cypher_files import statements
from memstore_schema.migrations import Migration, apply, migrations, number_of, pending

LADYBUG_TYPES = {
    pa.string(): "STRING",
    pa.int64(): "INT64",
    pa.float64(): "DOUBLE",
    pa.float32(): "FLOAT",
    TIME: "TIMESTAMP_TZ",
}


def test_migrations_are_numbered_from_one_to_the_schema_version() -> None:
    found = migrations("ladybug")
    assert [migration.number for migration in found] == list(range(1, SCHEMA_VERSION + 1))
    assert all(migration.statements for migration in found)
    assert [number_of(migration.name) for migration in found] == [migration.number for migration in found]


def test_all_migrations_together_give_the_declared_columns(tmp_path: Path) -> None:
    declared = {str(table): columns for part in (NODE_COLUMNS, EDGE_COLUMNS) for table, columns in part.items()}
    with LadybugGraph.open(tmp_path / "graph", create=True) as graph:
        tables = {row[1]: row[2] for row in graph.cypher("CALL show_tables() RETURN *").rows}
        assert set(tables) == {*declared, "Meta", "Migration"}
        for table, columns in declared.items():
            found = {row[1]: row[2] for row in graph.cypher(f"CALL table_info('{table}') RETURN *").rows}
            assert found == {name: LADYBUG_TYPES[kind] for name, kind in columns.items()}
        for edge, ends in EDGE_ENDS.items():
            found_ends = {row[:2] for row in graph.cypher(f"CALL show_connection('{edge}') RETURN *").rows}
            assert found_ends == {(str(source), str(target)) for source, target in ends}
        recorded = list(graph.cypher("MATCH (m:Migration) RETURN m.name, m.number, m.applied_at").rows)
        assert [row[:2] for row in recorded] == [(m.name, m.number) for m in migrations("ladybug")]


def test_only_pending_migrations_are_applied_until_one_fails() -> None:
    run: list[str] = []
    everything = [migration.name for migration in migrations("ladybug")]
    assert apply("ladybug", [], lambda migration: run.append(migration.name)) == run == everything
    assert pending("ladybug", everything) == []
    assert apply("ladybug", everything, lambda migration: run.append(migration.name)) == []

    def fail(migration: Migration) -> None:
        raise RuntimeError(migration.name)

    with pytest.raises(RuntimeError, match=everything[0]):
        apply("ladybug", [], fail)


def test_statements_end_at_a_line_that_ends_in_a_semicolon() -> None:
    text = "// why\nCREATE A(\n    b, c\n);\n\nCREATE D('x; y');\n// the end\nCREATE E"
    assert statements(text) == ("CREATE A(\n    b, c\n)", "CREATE D('x; y')", "CREATE E")
    assert statements("// nothing\n") == ()
