"""Verifies multiple-choice answers: the answer names the same option as the gold answer, by letter or by text.

Both texts go through the answer canonicaliser. If the query lists no lettered options, the two texts must match up to
case, spacing and punctuation; yes, no, true and false are read as such. An answer that names several options is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from memstore.text import canonical_answer
from memstore.text.choice import options
from memstore_rl.verifiers.protocol import Attempt, Verdict, quoted


class ChoiceVerifier:
    """Verifies answers of domain `qa`."""

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Return a verdict for each attempt, in order."""
        return [_verdict(attempt) for attempt in attempts]

    def close(self) -> None:
        """Do nothing: this verifier holds no resources."""


def _verdict(attempt: Attempt) -> Verdict:
    gold = canonical_answer(attempt.gold, "qa", attempt.query).value
    offered = options(attempt.query).texts
    if not gold or (offered and gold not in offered):
        among = f" among the options {', '.join(offered)}" if offered else ""
        return Verdict(None, f"the gold answer {quoted(attempt.gold)} cannot be read{among}")
    return Verdict(float(canonical_answer(attempt.answer, "qa", attempt.query).value == gold))
