"""The standard verifiers of each domain.

Domain `other` has no verifier, because no general rule decides what is right there. Domain `code` has one only if it is
passed in: running model-written code is opt-in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

from memstore.types import Domain
from memstore_rl.verifiers.choice import ChoiceVerifier
from memstore_rl.verifiers.math import MathVerifier
from memstore_rl.verifiers.protocol import Attempt, Verdict, Verifier, VerifierError, quoted


class Verifiers:
    """A set of verifiers, one per domain. Thread-safe."""

    def __init__(self, by_domain: Mapping[Domain, Verifier]) -> None:
        self._by_domain = dict(by_domain)

    def check(self, domain: Domain, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Return a verdict for each attempt, in order; reward None with a reason if the domain has no verifier."""
        verifier = self._by_domain.get(domain)
        if verifier is None:
            return [Verdict(None, _MISSING.get(domain, f"answers of domain {domain} cannot be verified"))] * len(
                attempts
            )
        return verifier.check(attempts)

    def check_all(self, domains: Sequence[Domain], attempts: Sequence[Attempt]) -> list[Verdict]:
        """Return a verdict for each attempt, in order, with one call per domain.

        Args:
            domains: the domain of each attempt.

        Raises:
            VerifierError: a verifier gave a reward that is neither None nor a number from 0 to 1.
        """
        verdicts: dict[int, Verdict] = {}
        by_domain: dict[Domain, list[int]] = {}
        for index, domain in enumerate(domains):
            by_domain.setdefault(domain, []).append(index)
        for domain, indices in by_domain.items():
            verdicts.update(zip(indices, self.check(domain, [attempts[index] for index in indices]), strict=True))
        for index, verdict in verdicts.items():
            if verdict.reward is not None and not _is_reward(verdict.reward):
                verifier = type(self._by_domain.get(domains[index], self)).__name__
                raise VerifierError(
                    f"the verifier {verifier} of domain {domains[index]} gave the reward {verdict.reward!r} for the "
                    f"query {quoted(attempts[index].query)}; it must give a number from 0 to 1, or None with a reason"
                )
        return [verdicts[index] for index in range(len(attempts))]

    def close(self) -> None:
        """Close all verifiers."""
        for verifier in self._by_domain.values():
            verifier.close()


def _is_reward(value: object) -> bool:
    return isinstance(value, Real) and 0.0 <= float(value) <= 1.0


_MISSING: dict[Domain, str] = {
    "code": "programs are not run unless that is switched on, so this program was not verified",
}


def make_verifiers(*, code: bool) -> Verifiers:
    """Return the standard verifiers, with or without one that runs programs.

    Raises:
        SandboxError: no sandbox can be built here.
    """
    if not code:
        return standard_verifiers()
    from memstore_rl.verifiers.code import CodeVerifier

    return standard_verifiers(code=CodeVerifier())


def standard_verifiers(*, code: Verifier | None = None) -> Verifiers:
    """Return verifiers for maths and multiple choice, and for programs if `code` is given."""
    by_domain: dict[Domain, Verifier] = {"math": MathVerifier(), "qa": ChoiceVerifier()}
    return Verifiers(by_domain if code is None else {**by_domain, "code": code})
