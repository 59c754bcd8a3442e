"""What a page says of background work that failed."""

from __future__ import annotations

import logging

from memstore.errors import MemstoreError

logger = logging.getLogger(__name__)


def sentence_of(error: Exception, *, logged: str, shown: str) -> str:
    """The sentence of a `MemstoreError`; of any other error `shown`, while the log has `logged` and the traceback."""
    if isinstance(error, MemstoreError):
        return str(error)
    logger.error(logged, exc_info=error)
    return shown
