"""Rate limit of requests to an endpoint."""

from __future__ import annotations

import asyncio
import time


class RateLimiter:
    """Limits requests to a rate, evenly spaced; for one event loop."""

    def __init__(self, per_second: float | None) -> None:
        """Create a limiter; None: no limit."""
        self._gap_s = 1 / per_second if per_second else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        """Wait until the next request may be sent."""
        if not self._gap_s:
            return
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._gap_s
        if at > now:
            await asyncio.sleep(at - now)
