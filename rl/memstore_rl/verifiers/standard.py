"""Which verifier judges which domain.

`other` has none: what is right there, no rule can say. Programs have one only where it is handed in, since running
what a policy wrote is a decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from memstore.types import Domain
from memstore_rl.verifiers.choice import ChoiceVerifier
from memstore_rl.verifiers.math import MathVerifier
from memstore_rl.verifiers.protocol import Attempt, Verdict, Verifier


class Verifiers:
    """Verifiers by domain. May be called from several threads at once."""

    def __init__(self, by_domain: Mapping[Domain, Verifier]) -> None:
        self._by_domain = dict(by_domain)

    def check(self, domain: Domain, attempts: Sequence[Attempt]) -> list[Verdict]:
        """A verdict for each attempt, in their order; None with a reason where the domain has no verifier."""
        verifier = self._by_domain.get(domain)
        if verifier is None:
            return [Verdict(None, _ABSENT.get(domain, f"answers of domain {domain} cannot be verified"))] * len(
                attempts
            )
        return verifier.check(attempts)

    def check_all(self, domains: Sequence[Domain], attempts: Sequence[Attempt]) -> list[Verdict]:
        """A verdict for each attempt, in their order; `domains` are theirs, and each verifier is asked once."""
        verdicts: dict[int, Verdict] = {}
        places: dict[Domain, list[int]] = {}
        for place, domain in enumerate(domains):
            places.setdefault(domain, []).append(place)
        for domain, own in places.items():
            verdicts.update(zip(own, self.check(domain, [attempts[place] for place in own]), strict=True))
        return [verdicts[place] for place in range(len(attempts))]

    def close(self) -> None:
        """Close all of them."""
        for verifier in self._by_domain.values():
            verifier.close()


_ABSENT: dict[Domain, str] = {
    "code": "programs are not run unless that is switched on, so a program's reward is not known",
}


def make_verifiers(*, code: bool) -> Verifiers:
    """The standard ones, with one that runs programs where that is switched on.

    Raises:
        SandboxError: no sandbox can be built here.
    """
    if not code:
        return standard_verifiers()
    from memstore_rl.verifiers.code import CodeVerifier

    return standard_verifiers(code=CodeVerifier())


def standard_verifiers(*, code: Verifier | None = None) -> Verifiers:
    """Maths, multiple choice, and programs if a verifier for them is given."""
    by_domain: dict[Domain, Verifier] = {"math": MathVerifier(), "qa": ChoiceVerifier()}
    return Verifiers(by_domain if code is None else {**by_domain, "code": code})
