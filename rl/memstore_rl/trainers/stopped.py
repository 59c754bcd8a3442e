"""Ends the process of a trainer that only logs errors.

Some trainers catch the errors of a rollout, write a line in a log and train on what is left, or wait for ever. A reward
service that is gone would then shrink every batch, and nobody would see it. In such a trainer a hook raises
`TrainingStopped`, which passes `except Exception` and ends the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from memstore.errors import MemstoreError

logger = logging.getLogger(__name__)


class TrainingStopped(SystemExit):
    """Ends the process with a sentence and the status 1; `__cause__` is the error."""


@contextmanager
def stop_training() -> Iterator[None]:
    """Turn errors of memstore into `TrainingStopped`.

    Example:
        with stop_training():
            scored = await hook.score_async(rows)

    Raises:
        TrainingStopped: the rollouts cannot be scored.
    """
    try:
        yield
    except MemstoreError as error:
        sentence = f"the training stops, because rollouts cannot be scored: {error}"
        logger.error("%s", sentence)  # a trainer may end with an error of its own
        raise TrainingStopped(sentence) from error
