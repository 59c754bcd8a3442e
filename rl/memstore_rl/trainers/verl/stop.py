"""A step that cannot be scored ends the training.

verl's v1 trainer takes a prompt whose rollouts raised for one that failed, and trains on what is left of the batch: a
reward service that is gone would be a smaller batch, and a line in a log. Here is the way around that without touching
the trainer: it polls the status of each prompt in the TransferQueue and raises on one that it does not know. So the
prompt's status becomes the reason, as one sentence, and the rollout never ends, so that nothing overwrites it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

logger = logging.getLogger(__name__)


async def stop_training(uid: str, *, validate: bool, reason: str) -> NoReturn:
    """Make verl's v1 trainer raise with this reason at its next poll; does not return."""
    import transfer_queue as tq

    logger.error("the training stops: %s", reason)
    tag = {"is_prompt": True, "global_steps": 0, "status": f"not scored, the training stops: {reason}"}
    await tq.async_kv_put(key=uid, partition_id="val" if validate else "train", tag=tag)
    await asyncio.Event().wait()
    raise AssertionError("unreachable")
