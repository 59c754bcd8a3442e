"""Retry policy for calls to servers, built on tenacity.

`RetryPolicy` bounds the retries by a deadline, a number of attempts, or both. The pause doubles with each failure and
is jittered, so that clients that failed together do not retry together. A wait that the server asks for (`Retry-After`)
replaces a shorter pause, up to `longest_hint_s`.

An error that is not retryable, and the last error of an exhausted policy, is raised unchanged.
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import tenacity

Result = TypeVar("Result")


def _no_hint(error: Exception) -> float | None:
    del error
    return None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long a failed call is retried.

    Example:
        >>> policy = RetryPolicy(deadline_s=60.0, first_pause_s=0.1)
        >>> policy.call(lambda: client.get(url), retryable=lambda error: isinstance(error, ConnectionError))
    """

    deadline_s: float | None = None
    """No attempt starts later than this after the first one, in seconds; None: no deadline, 0: no retry."""
    attempts: int | None = None
    """Most attempts, the first included; None: no limit."""
    first_pause_s: float = 0.5
    """Pause after the first failure; it doubles with each further failure."""
    longest_pause_s: float = 30.0
    """Upper limit of the doubled pause."""
    jitter: float = 0.5
    """The pause is multiplied by a random factor in [1 - jitter, 1]."""
    longest_hint_s: float = 300.0
    """Upper limit of a wait that the server asks for."""

    def pause_s(self, failed: int, hint_s: float | None = None) -> float:
        """Seconds to wait after `failed` failed attempts (1 or more).

        Args:
            hint_s: the wait that the server asks for; None if it asks for none.
        """
        doubled = self.first_pause_s * 2.0 ** min(failed - 1, 64)
        pause = min(doubled, self.longest_pause_s) * random.uniform(1 - self.jitter, 1)
        return pause if hint_s is None else max(pause, min(hint_s, self.longest_hint_s))

    def call(
        self,
        work: Callable[[], Result],
        *,
        retryable: Callable[[Exception], bool],
        hint_s: Callable[[Exception], float | None] = _no_hint,
    ) -> Result:
        """Call `work` until it returns, fails for good, or the policy is exhausted.

        Args:
            retryable: whether the same call may succeed after this error.
            hint_s: reads from the error how many seconds the server asks to wait.

        Raises:
            Exception: the error of the last attempt.
        """
        return tenacity.Retrying(**self._options(retryable, hint_s))(work)

    async def call_async(
        self,
        work: Callable[[], Awaitable[Result]],
        *,
        retryable: Callable[[Exception], bool],
        hint_s: Callable[[Exception], float | None] = _no_hint,
    ) -> Result:
        """The same as `call` for a coroutine function; the event loop runs during the pauses."""

        async def attempt() -> Result:
            return await work()  # tenacity awaits coroutine functions only, and `work` may be a lambda

        return await tenacity.AsyncRetrying(**self._options(retryable, hint_s))(attempt)

    def _options(
        self, retryable: Callable[[Exception], bool], hint_s: Callable[[Exception], float | None]
    ) -> dict[str, Any]:
        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            return self.pause_s(state.attempt_number, hint_s(error) if isinstance(error, Exception) else None)

        stop: Any = tenacity.stop_never
        if self.attempts is not None:
            stop = stop | tenacity.stop_after_attempt(self.attempts)
        if self.deadline_s is not None:
            stop = stop | tenacity.stop_before_delay(self.deadline_s)
        return {
            "wait": pause,
            "stop": stop,
            "retry": tenacity.retry_if_exception(lambda error: isinstance(error, Exception) and retryable(error)),
            "reraise": True,
        }


def retry_after_s(header: str | None, date: str | None = None) -> float | None:
    """Seconds in a `Retry-After` header, given as a number or as an HTTP date; None if it is absent or malformed.

    Args:
        date: the response's `Date` header. A wait until an HTTP date is counted from there, so that the clock of this
            machine does not matter; without it, from now.
    """
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(header).timestamp()
    except ValueError:
        return None
    try:
        now = email.utils.parsedate_to_datetime(date).timestamp() if date else time.time()
    except ValueError:
        now = time.time()
    return max(0.0, until - now)
