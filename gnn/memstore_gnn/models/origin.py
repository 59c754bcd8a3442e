"""What a model was trained on, kept beside it, so that later labels and rollouts can be held against it.

Two things: which labelled queries there were and which of them it learnt from (promotion compares models on others),
and how the rollouts that it learnt from were distributed (drift). Ids are kept as 8 bytes of a hash; no text, vector
or label of the memory is.
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
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector
from memstore_gnn.data.splits import labelled_queries
from memstore_gnn.monitoring.drift import Reference, reference_of

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class Origin:
    """See the module's docstring.

    Attributes:
        learnt: uint64 [N], sorted; queries whose labels training, selection or calibration could see.
        labelled: uint64 [M], sorted; all queries that had a label then.
        reference: how the rollouts of the `learnt` queries were distributed.
    """

    learnt: Digests
    labelled: Digests
    reference: Reference


def origin_of(snapshot: Snapshot, learnt: BoolVector) -> Origin:
    """The origin of a model that was trained on a snapshot.

    Args:
        learnt: bool [Q], the queries whose labels it could see.
    """
    ids = snapshot.queries["id"].to_numpy()
    return Origin(
        learnt=np.sort(digests(ids[learnt])),
        labelled=np.sort(digests(ids[labelled_queries(snapshot)])),
        reference=reference_of(snapshot, learnt),
    )


def digests(ids: Iterable[str]) -> Digests:
    """8 bytes of a hash of each id, uint64 [N]."""
    raw = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(raw, np.dtype("<u8")).astype(np.uint64)


def origin_bytes(origin: Origin) -> bytes:
    """The origin as the content of a safetensors file."""
    reference = origin.reference
    described = json.dumps({"features": list(reference.names), "datasets": list(reference.datasets)})
    arrays = {"learnt": origin.learnt, "labelled": origin.labelled, **reference.arrays()}
    return save(arrays | {"names": np.frombuffer(described.encode(), np.uint8)})


def read_origin(content: bytes) -> Origin:
    """What `origin_bytes` was given.

    Raises:
        ModelError: the content is something else.
    """
    try:
        arrays = load(content)
        described = json.loads(arrays["names"].tobytes())
        reference = Reference.of_arrays(tuple(described["features"]), tuple(described["datasets"]), arrays)
        return Origin(arrays["learnt"], arrays["labelled"], reference)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"what the model was trained on cannot be read ({error}); train it anew") from error
