"""Errors: all exceptions that memstore raises on purpose.

    MemstoreError                 base class: catch this one
    |-- InputError                an argument is invalid: a file, an option, a query
    |   |-- RecordError           a row of an input is not a valid rollout (it goes to the rejects file)
    |   |-- LabelConflict         a ground truth contradicts the stored one
    |   `-- WriteRefused          a Cypher query may write where the memory is only read
    |-- LocationError             there is no memory at the location, or it holds something else
    |-- LockedError               another process owns the memory
    |-- SchemaError               the store has an unsupported schema or storage version
    |-- EmbedderError             there is no embedder, or it is not the one that the memory was built with
    |-- StoreError                the graph or vector store failed
    |   |-- CorruptStoreError     a store that opened before cannot be opened
    |   |-- StoreFullError        no space is left on the disk
    |   |-- ReadOnlyError         the memory's folder can be read but not written to
    |   `-- QueryTimeout          a Cypher query exceeded its time limit
    |-- ModelError                there is no reward model, or it does not fit the memory
    `-- SandboxError              programs cannot be run safely on this machine

A message is one sentence that says what happened, to which object, and what to do. Errors carry no HTTP status or exit
code; these are chosen where an error leaves the process.
"""

from __future__ import annotations


class MemstoreError(Exception):
    """Base class of all errors that memstore raises on purpose."""


class InputError(MemstoreError):
    """An argument is invalid: a file, an option or a query."""


class RecordError(InputError):
    """A row of an input is not a valid rollout. The message is the reason in the rejects file."""


class LabelConflict(InputError):
    """A ground-truth reward contradicts the stored one; pass `replace` to overwrite it."""


class WriteRefused(InputError):
    """A Cypher query may do more than read; `reason` says why, without how to allow it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}, and here the memory is only read; pass --write (write=True) if it is meant to")
        self.reason = reason


class LocationError(MemstoreError):
    """There is no memory at this location, or it holds something else."""


class LockedError(MemstoreError):
    """Another process owns the embedded memory; `pid` is its process id if it is known."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class SchemaError(MemstoreError):
    """The memory has a schema or storage version that this memstore does not support."""


class EmbedderError(MemstoreError):
    """No embedder can be loaded, or it is not the one that the memory was built with."""


class StoreError(MemstoreError):
    """The graph store or the vector store failed."""


class CorruptStoreError(StoreError):
    """A store that opened before cannot be opened."""


class StoreFullError(StoreError):
    """No space is left on the disk that the store writes to."""


class ReadOnlyError(StoreError):
    """The memory's folder can be read but not written to, and the call writes."""


class QueryTimeout(StoreError):
    """A Cypher query exceeded its time limit."""


class ModelError(MemstoreError):
    """There is no reward model, or it does not fit the memory."""


class SandboxError(MemstoreError):
    """No sandbox for programs can be created on this machine; the message gives the reason and the remedy."""
