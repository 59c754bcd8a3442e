"""Ends a training of verl's v1 trainer when a step cannot be scored.

The v1 trainer treats a prompt whose rollouts raised as failed and trains on the rest of the batch: an unavailable
reward service would shrink the batch and leave only a line in a log. The trainer polls the status of each prompt in the
TransferQueue and raises on an unknown status. So the reason becomes the prompt's status, and the rollout never returns,
so that nothing overwrites it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

logger = logging.getLogger(__name__)


async def stop_training(uid: str, *, validate: bool, reason: str) -> NoReturn:
    """Make verl's v1 trainer raise with this reason at its next poll. Does not return."""
    import transfer_queue as tq

    logger.error("the training stops: %s", reason)
    tag = {"is_prompt": True, "global_steps": 0, "status": f"not scored, the training stops: {reason}"}
    await tq.async_kv_put(key=uid, partition_id="val" if validate else "train", tag=tag)
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
