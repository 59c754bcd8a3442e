"""Convert a snapshot of schema 1 that is read."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa

from memstore.snapshots.digest import content_digest
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import TABLES
from memstore.snapshots.upgrade import Content, upgrade
from memstore_schema.columns import SCHEMA_VERSION, NodeLabel

logger = logging.getLogger(__name__)


def upgrade_snapshot(old: Snapshot) -> Snapshot:
    """The snapshot in the present schema. Of two contradicting values, that of the older rollouts is kept."""
    tables: dict[NodeLabel, pa.Table] = {label: getattr(old, name) for label, name in TABLES.items()}
    made = upgrade(Content(tables, old.edges), texts_as_stored=True)
    if made.contradictions:
        logger.warning(
            "the snapshot has %d contradictions in what is one query now, of which the first value is kept: %s",
            len(made.contradictions),
            made.contradictions[0],
        )
    nodes, edges = made.content.nodes, made.content.edges
    query, thinking = (np.array(made.rows[label], np.int64) for label in (NodeLabel.QUERY, NodeLabel.THINKING))
    return replace(
        old,
        manifest=replace(old.manifest, id=content_digest(nodes, edges), schema_version=SCHEMA_VERSION),
        features=None,
        has_features=None,
        edges=edges,
        query_x=old.query_x[query],
        thinking_x=old.thinking_x[thinking],
        query_has_x=old.query_has_x[query],
        thinking_has_x=old.thinking_has_x[thinking],
        **{name: nodes[label] for label, name in TABLES.items()},
    )
