"""How fast requests are sent, and how long to wait before one is sent again.

A pause doubles with each failed try of a request, with chance in it so that requests which failed together do not come
back together. A server that says how long to wait (`Retry-After`) is obeyed, within reason.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from dataclasses import dataclass

LONGEST_HINT_S = 300.0
"""The longest that a server's Retry-After is followed; then one asks again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When a request is given up."""

    tries: int = 8
    """Of one request, the first included; an answer that gives at least one sample begins the count anew."""
    timeout_s: float = 600.0
    """For one try, from the first byte sent to the last received."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0

    def pause_s(self, failed: int, hint_s: float | None) -> float:
        """Seconds to wait after so many failed tries.

        Args:
            hint_s: what the server asks for.
        """
        pause = min(self.first_pause_s * 2.0 ** (failed - 1), self.longest_pause_s) * random.uniform(0.5, 1.0)
        return max(pause, min(hint_s, LONGEST_HINT_S)) if hint_s is not None else pause


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or as a date; None where it says nothing."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


class Rate:
    """At most so many requests a second, evenly spaced; for one event loop."""

    def __init__(self, per_second: float | None) -> None:
        """None: no limit."""
        self._gap_s = 1 / per_second if per_second else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until a request may be sent."""
        if not self._gap_s:
            return
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._gap_s
        if at > now:
            await asyncio.sleep(at - now)
