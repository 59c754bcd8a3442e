"""RetryPolicy: attempts, deadline, pauses, hints, sync and async."""

from __future__ import annotations

import asyncio
import email.utils
import time

import pytest

from memstore.runtime.retry import RetryPolicy, retry_after_s

QUICK = RetryPolicy(first_pause_s=0.0)


class Flaky:
    """Fails the first `failures` calls, then returns the number of calls."""

    def __init__(self, failures: int, error: type[BaseException] = ConnectionError) -> None:
        self.calls = 0
        self._failures, self._error = failures, error

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error(f"failure {self.calls}")
        return self.calls

    async def later(self) -> int:
        return self()


def is_connection(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def test_a_call_is_retried_until_it_returns() -> None:
    assert QUICK.call(Flaky(3), retryable=is_connection) == 4


def test_an_async_call_is_retried_until_it_returns() -> None:
    flaky = Flaky(3)
    assert asyncio.run(QUICK.call_async(lambda: flaky.later(), retryable=is_connection)) == 4


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_that_is_not_retryable_ends_the_call(error: type[BaseException]) -> None:
    flaky = Flaky(3, error)
    with pytest.raises(error, match="failure 1"):
        QUICK.call(flaky, retryable=is_connection)
    assert flaky.calls == 1


def test_the_last_error_is_raised_after_the_last_attempt() -> None:
    flaky = Flaky(9)
    with pytest.raises(ConnectionError, match="failure 3"):
        RetryPolicy(attempts=3, first_pause_s=0.0).call(flaky, retryable=is_connection)
    assert flaky.calls == 3


def test_a_cancelled_task_is_not_retried() -> None:
    flaky = Flaky(3, asyncio.CancelledError)

    async def run() -> None:
        await QUICK.call_async(flaky.later, retryable=lambda error: True)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert flaky.calls == 1


def test_a_deadline_of_zero_means_no_retry() -> None:
    flaky = Flaky(9)
    with pytest.raises(ConnectionError, match="failure 1"):
        RetryPolicy(deadline_s=0.0, first_pause_s=0.0).call(flaky, retryable=is_connection)


def test_no_attempt_starts_after_the_deadline() -> None:
    flaky, start = Flaky(9), time.monotonic()
    with pytest.raises(ConnectionError, match="failure 1"):
        RetryPolicy(deadline_s=0.5).call(flaky, retryable=is_connection, hint_s=lambda error: 60.0)
    assert time.monotonic() - start < 0.5, "it does not wait for an attempt that would be too late"


def test_pauses_double_up_to_the_longest() -> None:
    policy = RetryPolicy(first_pause_s=1.0, longest_pause_s=5.0, jitter=0.0)
    assert [policy.pause_s(failed) for failed in (1, 2, 3, 4, 5000)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_jitter_only_shortens_a_pause() -> None:
    pauses = {RetryPolicy(first_pause_s=1.0, jitter=0.5).pause_s(1) for _ in range(100)}
    assert len(pauses) > 1
    assert min(pauses) >= 0.5
    assert max(pauses) <= 1.0


def test_a_hint_replaces_a_shorter_pause_up_to_its_limit() -> None:
    policy = RetryPolicy(first_pause_s=1.0, jitter=0.0, longest_hint_s=10.0)
    assert [policy.pause_s(1, hint) for hint in (None, 0.1, 3.0, 99.0)] == [1.0, 1.0, 3.0, 10.0]


def test_retry_after_is_read_as_a_number_or_a_date() -> None:
    assert retry_after_s("2.5") == 2.5
    assert retry_after_s("-1") == 0.0
    assert retry_after_s(None) is None
    assert retry_after_s("soon") is None
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 50 < (retry_after_s(date) or 0) <= 60


def test_a_date_to_wait_for_does_not_depend_on_the_clock_of_this_machine() -> None:
    until, sent = (email.utils.formatdate(1_000_000_000 + seconds, usegmt=True) for seconds in (90, 30))
    assert retry_after_s(until, sent) == 60
    assert retry_after_s(sent, until) == 0
    assert retry_after_s(until, "yesterday") == 0.0  # counted from now, long after that date
