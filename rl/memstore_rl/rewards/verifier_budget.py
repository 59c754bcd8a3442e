"""The budget of mode `verdict`: how many calls of a verifier a training step, or the whole run, may make."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from memstore.errors import InputError

NEEDS_BUDGET = (
    "mode verdict needs a budget of verifier calls; set verifier_calls (calls a step), or verifier_total (calls in "
    "all), where the scorer or the service is started"
)
WAIT_S = 60.0
"""Default seconds that a step waits for verdicts."""
_KEPT_STEPS = 4096
"""Steps whose calls are counted at a time; an asynchronous trainer has a few at a time."""


@dataclass(frozen=True)
class VerifierBudget:
    """Limits of the calls. A call asks for the verdict on one answer of one query. One of the two limits is required.

    Raises:
        InputError: there is no limit, or a value is invalid.
    """

    calls: int | None = None
    """Calls a step; None: no limit a step."""
    total: int | None = None
    """Calls in all: those of this scorer, and the verdicts that its memory has of the same runs. None: no limit."""
    wait_s: float = WAIT_S
    """Seconds that a step waits for verdicts; 0: it does not wait. Later verdicts count from the next step on."""

    def __post_init__(self) -> None:
        if self.calls is None and self.total is None:
            raise InputError(NEEDS_BUDGET)
        for name, value in (("verifier_calls", self.calls), ("verifier_total", self.total)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise InputError(f"{name} is {value!r}; it must be a whole number from 1")
            if value is not None and value < 1:
                raise InputError(
                    f"{name} is {value}, and a budget without calls buys no verdict; set 1 or more, or use mode memory"
                )
        if isinstance(self.wait_s, bool) or not isinstance(self.wait_s, int | float):
            raise InputError(f"verifier_wait is {self.wait_s!r}; it must be 0 or a number of seconds above 0")
        if not 0.0 <= self.wait_s < math.inf:
            raise InputError(f"verifier_wait is {self.wait_s:g} s; it must be 0 or a number of seconds above 0")

    def __str__(self) -> str:
        """The limits as text."""
        limits = ((self.calls, "a step"), (self.total, "in all"))
        return " and ".join(f"{limit:,} {of}" for limit, of in limits if limit is not None)

    @classmethod
    def of(cls, calls: int | None, total: int | None, wait_s: float = WAIT_S) -> VerifierBudget | None:
        """The budget of these settings; None if neither limit is set."""
        return None if calls is None and total is None else cls(calls, total, wait_s)


class CallCounter:
    """Counts calls by step. The caller holds a lock."""

    def __init__(self, budget: VerifierBudget) -> None:
        self._budget = budget
        self._by_step: OrderedDict[Hashable, int] = OrderedDict()
        self.total = 0
        """Calls of all steps."""
        self.earlier = 0
        """Calls before this process, which count towards the limit in all."""
        self.latest = 0
        """Calls of the step that called last."""

    def left(self, step: Hashable) -> float:
        """Calls that a step may still make."""
        limits = ((self._budget.calls, self._by_step.get(step, 0)), (self._budget.total, self.total + self.earlier))
        return min(math.inf if limit is None else limit - used for limit, used in limits)

    def count(self, step: Hashable) -> None:
        """Count a call of a step."""
        self.total += 1
        self.latest = self._by_step[step] = self._by_step.pop(step, 0) + 1
        while len(self._by_step) > _KEPT_STEPS:
            self._by_step.popitem(last=False)
