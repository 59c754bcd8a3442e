"""Calls verifiers in a thread of its own, so that a verifier that is slow, hangs or fails cannot stop the scoring.

Questions are answered in order, those that were added together in one call per domain. A verifier that raises has
answered none of them. A question that is asked again is asked alone, because another one may have made the call fail.
If the thread ends, by SystemExit of a verifier for example, the queue is broken: the log has the cause, and from then
on `check` and `wait` raise.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from memstore.types import Domain
from memstore_rl.verifiers import Verifiers
from memstore_rl.verifiers.protocol import Attempt, Verdict, VerifierError

logger = logging.getLogger(__name__)

MAX_WAITING = 1024
"""Questions that may be without an answer at a time."""


class Question(NamedTuple):
    """An answer to verify."""

    key: str
    """Identifies the answer and its query."""
    domain: Domain
    attempt: Attempt


OnAnswer: TypeAlias = Callable[[Question, Verdict | Exception], None]
"""Called in the queue's thread for each question, with the verdict or the verifier's error."""


class VerifierQueue:
    """Asks verifiers; see the module's docstring. Thread-safe."""

    def __init__(self, verifiers: Verifiers, on_answer: OnAnswer) -> None:
        """Create a queue; its thread starts with the first question.

        Args:
            verifiers: the verifiers by domain; the caller closes them.
            on_answer: receives the answers.
        """
        self._verifiers = verifiers
        self._on_answer = on_answer
        self._changed = threading.Condition()
        self._batches: deque[list[Question]] = deque()
        self._waiting = 0
        self._closed = False
        self._ended_by: BaseException | None = None
        """What ended the thread before the queue was closed."""
        self._thread: threading.Thread | None = None

    @property
    def room(self) -> int:
        """Number of questions that can be added."""
        with self._changed:
            return MAX_WAITING - self._waiting

    def add(self, questions: Sequence[Question], *, alone: bool = False) -> None:
        """Add questions, at most `room` of them.

        Args:
            alone: whether each is asked in a call of its own.
        """
        if not questions:
            return
        with self._changed:
            self._batches.extend([question] for question in questions) if alone else self._batches.append(
                list(questions)
            )
            self._waiting += len(questions)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="memstore-verdicts", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until every question has an answer, for at most `seconds`; return whether it has.

        Raises:
            VerifierError: the queue is broken.
        """
        with self._changed:
            answered = self._changed.wait_for(lambda: self._waiting == 0 or self._ended_by is not None, seconds)
        self.check()
        return answered

    def check(self) -> None:
        """Check that questions can be answered.

        Raises:
            VerifierError: the queue is broken.
        """
        if self._ended_by is not None:
            raise VerifierError(
                f"a verifier ended the thread of the verdicts with {self._ended_by!r}, so no verdict can be bought; "
                "make it raise an ordinary exception, and start again"
            ) from self._ended_by

    def close(self) -> None:
        """Ask no more questions. A call that hangs keeps its thread, which does not keep the process."""
        with self._changed:
            self._closed = True
            self._batches.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._answer_all()
        except BaseException as error:  # SystemExit of a verifier, for example, which threading would not report
            logger.critical("the thread of the verdicts ended: no verdict can be bought any more", exc_info=error)
            with self._changed:
                self._ended_by = error
                self._changed.notify_all()

    def _answer_all(self) -> None:
        while (batch := self._next()) is not None:
            for question, answer in zip(batch, self._ask(batch), strict=True):
                self._on_answer(question, answer)
            with self._changed:
                self._waiting -= len(batch)
                self._changed.notify_all()

    def _next(self) -> list[Question] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._batches)
            return None if self._closed else self._batches.popleft()

    def _ask(self, batch: list[Question]) -> Sequence[Verdict | Exception]:
        domains, attempts = [one.domain for one in batch], [one.attempt for one in batch]
        try:
            return self._verifiers.check_all(domains, attempts)
        except Exception as error:  # of any verifier that a user passes; the caller reports it
            return [error] * len(batch)
