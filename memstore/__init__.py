"""An experience memory for reinforcement learning of language models.

The names below are loaded on first use, so that `import memstore` stays quick and loads neither torch nor a store.

Example:
    >>> from memstore import Memory
    >>> with Memory.open("my-memory", create=True) as memory:
    ...     print(memory.ingest(["rollouts.jsonl"]))
    ...     print(memory.cypher("MATCH (:Query)-[:IN]->(d:Dataset) RETURN d.name, count(*)").to_pandas())
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memstore.errors import MemstoreError
    from memstore.locations.settings import Settings
    from memstore.memory import Memory
    from memstore.pipeline.ingest import IngestOptions
    from memstore.records.record import RecordDefaults
    from memstore.sample import sample_path
    from memstore.snapshots.files import load_snapshot
    from memstore.snapshots.snapshot import Snapshot
    from memstore.snapshots.write import save_snapshot
    from memstore.vectors.knn import LinkSettings

__all__ = [
    "IngestOptions",
    "LinkSettings",
    "Memory",
    "MemstoreError",
    "RecordDefaults",
    "Settings",
    "Snapshot",
    "load_snapshot",
    "sample_path",
    "save_snapshot",
]

_MODULES = {
    "IngestOptions": "memstore.pipeline.ingest",
    "LinkSettings": "memstore.vectors.knn",
    "Memory": "memstore.memory",
    "MemstoreError": "memstore.errors",
    "RecordDefaults": "memstore.records.record",
    "Settings": "memstore.locations.settings",
    "Snapshot": "memstore.snapshots.snapshot",
    "load_snapshot": "memstore.snapshots.files",
    "sample_path": "memstore.sample",
    "save_snapshot": "memstore.snapshots.write",
}
"""The module that defines each name."""


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("memstore"):
            raise
        raise ImportError(
            f"memstore-client has no {name}, which is a part of memstore; run: pip uninstall memstore-client && "
            "pip install memstore"
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
