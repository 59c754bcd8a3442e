"""Opening a LadybugDB graph, and the errors of folders that cannot be opened."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import ladybug
import pytest

from memstore.errors import CorruptStoreError, LocationError, LockedError, SchemaError, StoreError
from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block
from memstore_schema.columns import SCHEMA_VERSION


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a graph in it, closed."""
    LadybugGraph.open(tmp_path / "graph", create=True).close()
    return tmp_path / "graph"


def test_opening_without_create_creates_nothing(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(LocationError, match="no graph"):
            LadybugGraph.open(place, create=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("so far")
    with pytest.raises(LocationError, match="something else"):
        LadybugGraph.open(tmp_path, create=True)
    with pytest.raises(LocationError, match="is a file"):
        LadybugGraph.open(tmp_path / "thesis.tex", create=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_create_opens_an_existing_graph(folder: Path) -> None:
    with LadybugGraph.open(folder, create=True) as graph:
        graph.write_block(make_block(Rollout("t1", "q1")))
    with LadybugGraph.open(folder, create=True) as graph:
        assert len(dump(graph)["Thinking"]) == 1


def test_an_interrupted_creation_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "graph.lbdb").touch()
    with LadybugGraph.open(tmp_path, create=True) as graph:
        assert graph.schema_version() == SCHEMA_VERSION


def test_a_second_store_of_this_process_is_refused(folder: Path) -> None:
    with LadybugGraph.open(folder, create=False), pytest.raises(LockedError, match="this process"):
        LadybugGraph.open(folder, create=False)
    LadybugGraph.open(folder, create=False).close()


def test_library_and_storage_versions_are_recorded(folder: Path) -> None:
    with LadybugGraph.open(folder, create=False) as graph:
        assert graph.read_meta() == {
            "ladybug_version": ladybug.__version__,
            "ladybug_storage_version": str(ladybug.Database.get_storage_version()),
        }


def test_a_newer_schema_is_refused_and_the_lock_released(folder: Path) -> None:
    with LadybugGraph.open(folder, create=False) as graph:
        query = "CREATE (:Migration {name: '9999_later', number: 9999, applied_at: $now})"
        list(graph.cypher(query, {"now": dt.datetime.now(dt.UTC)}, write=True).rows)
    for _ in range(2):
        with pytest.raises(SchemaError, match="schema 9999.*pip install -U memstore"):
            LadybugGraph.open(folder, create=False)


def test_an_older_schema_opens_and_migrates(folder: Path) -> None:
    with LadybugGraph.open(folder, create=False) as graph:
        tables = [row[1] for row in graph.cypher("CALL show_tables() RETURN *").rows if row[2] == "REL"]
        tables += [row[1] for row in graph.cypher("CALL show_tables() RETURN *").rows if row[2] == "NODE"]
        for table in tables:
            if table not in ("Meta", "Migration"):
                list(graph.cypher(f"DROP TABLE `{table}`", write=True).rows)
        list(graph.cypher("MATCH (m:Migration) DELETE m", write=True).rows)
    with LadybugGraph.open(folder, create=False) as graph:
        assert graph.schema_version() == 0
        assert graph.migrate() == ["0001_rollouts", "0002_datasets"]
        graph.write_block(make_block(Rollout("t1", "q1", "4")))


@pytest.mark.parametrize("version", [40, 48, 50, 1000])
def test_another_storage_version_is_refused(folder: Path, version: int) -> None:
    with (folder / "graph.lbdb").open("rb+") as file:
        file.seek(4)
        file.write(version.to_bytes(8, "little"))
    with pytest.raises(SchemaError, match=rf"storage version {version} .*memstore snapshot.*memstore restore"):
        LadybugGraph.open(folder, create=False)


@pytest.mark.parametrize("head", [b"SQLite format 3\x00", b"LBU", b"\x00" * 64])
def test_a_file_of_another_format_is_refused(folder: Path, head: bytes) -> None:
    (folder / "graph.lbdb").write_bytes(head)
    with pytest.raises(CorruptStoreError, match="restore a snapshot"):
        LadybugGraph.open(folder, create=False)


def test_a_closed_store_raises_an_error(folder: Path) -> None:
    graph = LadybugGraph.open(folder, create=False)
    rows = graph.cypher("UNWIND range(1, 100) AS i RETURN i").rows
    next(rows)
    graph.close()
    graph.close()
    with pytest.raises(StoreError, match="closed"):
        dump(graph)
    with pytest.raises(StoreError, match="no longer be read"):
        list(rows)


def test_a_buffer_pool_too_small_for_a_query_raises_an_error(tmp_path: Path) -> None:
    with LadybugGraph.open(tmp_path / "graph", create=True, buffer_pool_bytes=32 * 2**20) as graph:
        query = "UNWIND range(1, 3000000) AS i WITH i, md5(string(i)) AS h RETURN h, collect(i)"
        with pytest.raises(StoreError, match="memory"):
            list(graph.cypher(query).rows)
        assert list(graph.cypher("RETURN 1 AS one").rows) == [(1,)]


def test_many_blocks_and_checkpoints_do_not_grow_the_file(tmp_path: Path) -> None:
    """Each checkpoint of older versions grew the file by 9 MiB (LadybugDB issue 924)."""
    sizes = {}
    with LadybugGraph.open(tmp_path / "graph", create=True) as graph:
        for number in range(50):
            rollouts = [Rollout(f"t{number:02}-{i}", f"q{i}", "4", text="why " * 300) for i in range(20)]
            graph.write_block(make_block(*rollouts, batch={"id": f"b{number}"}))
            graph.checkpoint()
            sizes[number] = (tmp_path / "graph" / "graph.lbdb").stat().st_size
        assert len(dump(graph)["Thinking"]) == 1000
    assert sizes[49] - sizes[9] < 16 * 2**20
