"""Write a snapshot as the files that `neo4j-admin database import full` reads: the first load of an empty database.

The folder holds a CSV file for each label and each kind of edge, `neo4j-admin.args` with the options, and a manifest:

    cd FOLDER && neo4j-admin database import full @neo4j-admin.args neo4j

Nodes are numbered by their position in the snapshot, and edges name these numbers, which the importer does not keep.
Nodes, edges and properties are those that a restore of the snapshot writes, the namespace among them. A Batch node in
the state `imported` says that vectors are still to come: `memstore.pipeline.restore` compares the graph with the
snapshot (`check_imported`), and writes the rest. Constraints are created when memstore opens the imported graph: the
importer of the Community edition takes none.

CSV, because every edition and version reads it. A null is an empty field, and an empty text a quoted one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from memstore.errors import InputError, StoreError
from memstore.graph.protocol import EdgeTable, GraphStore
from memstore.pipeline.content import IMPORTED, RESTORED
from memstore.progress import Progress, Silent
from memstore.runtime.disk_space import space_errors
from memstore.snapshots.atomic_folder import atomic_folder
from memstore.snapshots.digest import content_digest
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import EDGE_NAMES, TABLES
from memstore_schema.columns import EDGE_COLUMNS, NODE_COLUMNS, NodeLabel

ARGUMENTS = "neo4j-admin.args"
"""File of the importer's options."""
_MANIFEST = "import.json"
_BLOCK_ROWS = 50_000
"""Rows that are converted and written together."""
_MIN_BUFFER = 4 * 2**20
"""Bytes of the importer's default buffer, which has to hold the longest field."""
_TYPES = {pa.string(): "string", pa.int64(): "long", pa.float64(): "double", pa.float32(): "double"}


@dataclass(frozen=True)
class ImportFiles:
    """Files of one import, as their manifest describes them."""

    snapshot: str
    """Id of the snapshot."""
    namespace: str
    """Namespace of all nodes."""
    nodes: dict[str, int]
    """Nodes by label."""
    relationships: dict[str, int]
    """Edges by the name of their table (`memstore.snapshots.take.EDGE_NAMES`)."""

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return asdict(self)


def write_import_files(
    snapshot: Snapshot, folder: Path, namespace: str, *, progress: Progress | None = None
) -> ImportFiles:
    """Write the files to a new folder; a folder that holds those of the same snapshot and namespace stays as it is.

    Raises:
        InputError: the folder holds something else, or the snapshot was taken without texts.
        StoreFullError: the disk is full; nothing is left behind.
        StoreError: the folder cannot be written.
    """
    if "text" not in snapshot.thinkings.column_names:
        raise InputError("this snapshot was taken without texts and cannot be imported; take one with texts")
    if (found := _read_manifest(folder)) is not None:
        if (found.snapshot, found.namespace) == (snapshot.manifest.id, namespace):
            return found
        raise InputError(
            f"{folder} has the files of the snapshot {found.snapshot} for the namespace {found.namespace}; name a new "
            "folder"
        )
    try:
        with space_errors(f"there is no space for the files in {folder}; free some and run the same command again"):
            return _write(snapshot, folder, namespace, progress or Silent())
    except OSError as error:
        raise StoreError(f"the folder {folder} cannot be written: {error.strerror or error}") from error


def _read_manifest(folder: Path) -> ImportFiles | None:
    """What a folder says that it holds; None if it is no folder of import files. The manifest is written last."""
    try:
        return ImportFiles(**json.loads((folder / _MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(snapshot: Snapshot, folder: Path, namespace: str, progress: Progress) -> ImportFiles:
    tables = {label: getattr(snapshot, name) for label, name in TABLES.items()}
    batch = {"id": [RESTORED], "source": [snapshot.manifest.id], "state": [IMPORTED]}
    tables[NodeLabel.BATCH] = pa.table(batch)
    nodes = {label: len(table) for label, table in tables.items() if len(table)}
    edges = {name: snapshot.edges[name] for name in EDGE_NAMES if len(snapshot.edges[name])}
    files = ImportFiles(
        snapshot.manifest.id,
        namespace,
        {str(label): count for label, count in nodes.items()},
        {name: len(edge) for name, edge in edges.items()},
    )
    linked = f"{snapshot.manifest.links} embedder={snapshot.manifest.embedder}"
    constants = {"namespace": namespace, "batch": RESTORED, "linked": linked}
    with atomic_folder(folder, "files") as building:
        progress.stage("write the nodes", sum(nodes.values()))
        longest = max(_write_nodes(building, label, tables[label], constants, progress) for label in nodes)
        progress.stage("write the relationships", sum(map(len, edges.values())))
        for name, edge in edges.items():
            _write_csv(building / f"{name}.csv", _edge_blocks(name, edge), progress)
        buffer = max(_MIN_BUFFER, 4 * longest)
        (building / ARGUMENTS).write_text(_arguments(list(nodes), list(edges), buffer), encoding="utf-8")
        (building / _MANIFEST).write_text(json.dumps(files.as_json(), indent=1) + "\n", encoding="utf-8")
    return files


def _arguments(labels: list[NodeLabel], edges: list[str], buffer: int) -> str:
    """The importer's options. A file name list takes all that follows, so that another option has to end it."""
    lines = [f"--nodes={label}={label}.csv" for label in labels]
    lines += [f"--relationships={EDGE_NAMES[name][0]}={name}.csv" for name in edges]
    lines += ["--id-type=integer", "--multiline-fields=true", f"--read-buffer-size={buffer}"]
    return "\n".join(lines) + "\n"


def _write_nodes(
    folder: Path, label: NodeLabel, table: pa.Table, constants: Mapping[str, str], progress: Progress
) -> int:
    """Write the nodes of a label; return the bytes of the longest text."""
    names = ["namespace", *(name for name in NODE_COLUMNS[label] if name in table.column_names or name in constants)]

    def blocks() -> Iterator[pa.Table]:
        for start in range(0, len(table), _BLOCK_ROWS):
            part = table.slice(start, _BLOCK_ROWS)
            columns: dict[str, Any] = {f":ID({label})": np.arange(start, start + len(part))}
            for name in names:
                column = pa.repeat(constants[name], len(part)) if name in constants else part[name]
                _add(columns, name, column)
            yield pa.table(columns)

    _write_csv(folder / f"{label}.csv", blocks(), progress)
    texts = [table[name] for name in table.column_names if table.schema.field(name).type == pa.string()]
    return max((pc.max(pc.binary_length(column)).as_py() or 0 for column in texts), default=0)


def _edge_blocks(name: str, edge: EdgeTable) -> Iterator[pa.Table]:
    kind, source, target = EDGE_NAMES[name]
    for start in range(0, len(edge), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        columns: dict[str, Any] = {
            f":START_ID({source})": edge.source[rows],
            f":END_ID({target})": edge.target[rows],
        }
        for column in EDGE_COLUMNS[kind]:
            _add(columns, column, edge.properties[column].slice(start, _BLOCK_ROWS))
        yield pa.table(columns)


def _add(columns: dict[str, Any], name: str, values: pa.ChunkedArray | pa.Array) -> None:
    """Add a property with its header, typed and written as the driver would send it."""
    if pa.types.is_timestamp(values.type):
        text = pc.strftime(values.cast(pa.timestamp("us")), format="%Y-%m-%dT%H:%M:%S")
        columns[f"{name}:datetime"] = pc.binary_join_element_wise(text, "Z[UTC]", "")
    elif values.type == pa.float32():
        columns[f"{name}:double"] = values.cast(pa.float64())  # the same number; its shortest form as float32 is not
    else:
        columns[f"{name}:{_TYPES[values.type]}"] = values


def _write_csv(path: Path, blocks: Iterator[pa.Table], progress: Progress) -> None:
    first = next(blocks)
    with pa.OSFile(str(path), "wb") as sink, pa.csv.CSVWriter(sink, first.schema) as writer:
        writer.write_table(first)
        progress.advance(len(first))
        for block in blocks:
            writer.write_table(block)
            progress.advance(len(block))


def check_imported(graph: GraphStore, snapshot: Snapshot, where: str) -> None:
    """Compare an imported graph with its snapshot: numbers of nodes and edges, and the digest of ids, labels and links.

    Raises:
        StoreError: they differ.
    """
    columns = {label: ["id", "reward"] if label is NodeLabel.THINKING else ["id"] for label in TABLES}
    stored = {label: graph.nodes(label, names) for label, names in columns.items()}
    wanted = {label: getattr(snapshot, name) for label, name in TABLES.items()}
    different = [f"{len(stored[x])} of {len(wanted[x])} {x} nodes" for x in TABLES if len(stored[x]) != len(wanted[x])]
    for name, (edge, source, target) in EDGE_NAMES.items():
        found = graph.cypher(f"MATCH (:{source})-[r:{edge}]->(:{target}) RETURN count(r)")
        if (count := next(iter(found.rows))[0]) != len(snapshot.edges[name]):
            different.append(f"{count} of {len(snapshot.edges[name])} {edge} relationships")
    if not different:
        read: dict[str, list[str]] = {name: [] for name in ("generates", "leads_to")}
        read |= {name: ["score"] for name in ("query_similar", "thinking_similar")}
        edges = {name: graph.edges(*EDGE_NAMES[name], names) for name, names in read.items()}
        if content_digest(stored, edges) != content_digest(wanted, snapshot.edges):
            different.append("other ids, labels or links")
    if different:
        raise StoreError(
            f"the graph of {where} was imported and is not that of the snapshot {snapshot.manifest.id} "
            f"({different[0]}): something else was written since, or the files are of another snapshot; import into an "
            "empty database again (memstore export neo4j --overwrite)"
        )
