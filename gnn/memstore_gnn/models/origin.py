"""Training data of a model, stored beside it for promotion and drift detection.

Stored are the ids of the labelled queries and of those the model was trained on (promotion compares models on other
queries), and the feature distribution of the rollouts it was trained on (drift detection). Ids are stored as 8 bytes of
a hash. No text, vector or label of the memory is stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from memstore.errors import ModelError
from memstore.snapshots.aliases import ids_of_schema_1
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector
from memstore_gnn.data.splits import labelled_queries
from memstore_gnn.monitoring.drift import Reference, reference_of

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class Origin:
    """Training data of a model.

    Attributes:
        learnt: uint64 [N], sorted digests of the queries whose labels training, selection or calibration could see.
        labelled: uint64 [M], sorted digests of all queries that had a label at the time.
        reference: feature distribution of the rollouts of the `learnt` queries.
    """

    learnt: Digests
    labelled: Digests
    reference: Reference


def origin_of(snapshot: Snapshot, learnt: BoolVector) -> Origin:
    """Describe the training data of a model.

    Args:
        snapshot: the snapshot it was trained on.
        learnt: bool [Q], the queries whose labels it could see.
    """
    ids = snapshot.queries["id"].to_numpy()
    return Origin(
        learnt=np.sort(digests(ids[learnt])),
        labelled=labelled_digests(snapshot),
        reference=reference_of(snapshot, learnt),
    )


def labelled_digests(snapshot: Snapshot) -> Digests:
    """Sorted digests of the queries that have a label, uint64 [M]."""
    return np.sort(digests(snapshot.queries["id"].to_numpy()[labelled_queries(snapshot)]))


def is_redrawn(origin: Origin, snapshot: Snapshot, shown: BoolVector) -> bool:
    """Whether a label budget now shows labels that the model has not seen, because a migration gave queries new ids.

    Args:
        shown: bool [Q], the queries that the budget shows.
    """
    shown = shown & labelled_queries(snapshot)
    unseen = ~np.isin(digests(snapshot.queries["id"].to_numpy()[shown]), origin.learnt)
    return bool(unseen.any() and np.isin(digests(ids_of_schema_1(snapshot)), origin.learnt).any())


def digests(ids: Iterable[str]) -> Digests:
    """Hash each id to 8 bytes, uint64 [N]."""
    raw = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(raw, np.dtype("<u8")).astype(np.uint64)


def origin_bytes(origin: Origin) -> bytes:
    """Serialise an origin as the content of a safetensors file."""
    reference = origin.reference
    described = json.dumps({"features": list(reference.names), "datasets": list(reference.datasets)})
    arrays = {"learnt": origin.learnt, "labelled": origin.labelled, **reference.arrays()}
    return save(arrays | {"names": np.frombuffer(described.encode(), np.uint8)})


def read_origin(content: bytes) -> Origin:
    """Read an origin that `origin_bytes` serialised.

    Raises:
        ModelError: the content is something else.
    """
    try:
        arrays = load(content)
        described = json.loads(arrays["names"].tobytes())
        reference = Reference.of_arrays(tuple(described["features"]), tuple(described["datasets"]), arrays)
        return Origin(arrays["learnt"], arrays["labelled"], reference)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"the training data of the model cannot be read ({error}); train the model again") from error
