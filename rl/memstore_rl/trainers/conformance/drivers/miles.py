"""Drives the hook of miles as its rollout does, which is as slime's."""

from __future__ import annotations

from memstore_rl.trainers.conformance.drivers import slime

RECORDED = "the signatures recorded from radixark/miles 31f1ca96 (0.1.0), which the hook reads as slime's"


class Driver(slime.Driver):
    """See the module's docstring."""

    trainer = "miles"
    path = "memstore_rl.trainers.miles.group_rewards"

    def __init__(self) -> None:
        super().__init__()
        if self.against == slime.RECORDED:
            self.against = RECORDED

    def _own(self) -> slime.Own | None:
        """miles' own classes; None where miles is not installed."""
        try:
            from miles.rollout.rm_hub import async_rm, batched_async_rm
            from miles.utils.types import Sample
        except ImportError:
            return None
        return "miles' own Sample, batched_async_rm and async_rm", Sample, slime.dispatch(batched_async_rm, async_rm)
