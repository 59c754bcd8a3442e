"""Everything memstore raises on purpose, in one tree.

    MemstoreError                 base: catch this one at an edge
    |-- InputError                what was passed cannot be used: a file, an option, a query
    |   |-- RecordError           one row of an input is not a rollout (goes to the rejects file)
    |   `-- LabelConflict         a ground truth contradicts the one that is known
    |-- LocationError             no memory there, or a folder that holds something else
    |-- LockedError               another process owns the memory
    |-- SchemaError               the store is older, newer or of another storage version
    |-- EmbedderError             no embedder, or not the one this memory was built with
    |-- StoreError                the graph or vector store failed
    |   |-- CorruptStoreError     it opened before and does not now
    |   |-- StoreFullError        no space left to write to
    |   `-- QueryTimeout          a Cypher query ran past its limit
    |-- ModelError                no reward model, or one that does not fit this memory
    `-- SandboxError              programs cannot be run safely here, so they are not run

A message is one sentence that says what happened, to which object, and what to do about it. Nothing here carries
an HTTP or exit code: those are chosen where an error leaves the process.
"""

from __future__ import annotations


class MemstoreError(Exception):
    """Base of all errors that memstore raises on purpose."""


class InputError(MemstoreError):
    """What was passed cannot be used."""


class RecordError(InputError):
    """One row of an input is not a rollout; the message is the reason written to the rejects file."""


class LabelConflict(InputError):
    """A ground-truth reward contradicts the one the memory holds; pass `replace` to overwrite it."""


class LocationError(MemstoreError):
    """There is no memory at this location, or it holds something else."""


class LockedError(MemstoreError):
    """Another process owns this embedded memory."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class SchemaError(MemstoreError):
    """The memory has a schema or storage version that this memstore does not work with."""


class EmbedderError(MemstoreError):
    """No embedder can be had, or it is not the one the memory was built with."""


class StoreError(MemstoreError):
    """The graph or the vector store failed."""


class CorruptStoreError(StoreError):
    """A store that opened before does not open now."""


class StoreFullError(StoreError):
    """There is no space left where the store writes."""


class QueryTimeout(StoreError):
    """A Cypher query ran past its time limit."""


class ModelError(MemstoreError):
    """There is no reward model, or it does not fit this memory."""


class SandboxError(MemstoreError):
    """No sandbox for programs can be built here; the message says why and what helps."""
