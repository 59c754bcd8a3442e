"""Labels of the nodes that have vectors, by vector kind."""

from __future__ import annotations

from memstore.types import VectorKind
from memstore_schema.columns import NodeLabel

LABEL_OF: dict[VectorKind, NodeLabel] = {"query": NodeLabel.QUERY, "thinking": NodeLabel.THINKING}
