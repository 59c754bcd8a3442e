"""Multiple choice: the answer names the option that the gold names, by its letter or by the option's own text.

Both are read by the one canonicaliser. Where the query offers no lettered options, the two texts have to be the same
but for case, spacing and punctuation, and yes, no, true and false count as such. An answer that names several
options names none, and is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from memstore.text import canonical_answer
from memstore.text.choice import options
from memstore_rl.verifiers.protocol import Attempt, Verdict, quoted


class ChoiceVerifier:
    """Judges answers of domain `qa`."""

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """A verdict for each attempt, in their order."""
        return [_judge(attempt) for attempt in attempts]

    def close(self) -> None:
        """Nothing is held."""


def _judge(attempt: Attempt) -> Verdict:
    gold = canonical_answer(attempt.gold, "qa", attempt.query).value
    offered = options(attempt.query).texts
    if not gold or (offered and gold not in offered):
        among = f" among the options {', '.join(offered)}" if offered else ""
        return Verdict(None, f"the gold answer {quoted(attempt.gold)} cannot be read{among}")
    return Verdict(float(canonical_answer(attempt.answer, "qa", attempt.query).value == gold))
