"""Verifies programs by running the gold answer's tests in a sandbox; see docs/code_rewards.md.

Running model-written code is opt-in: create a `CodeVerifier` and pass it to `standard_verifiers(code=...)`. If no
sandbox can be built here, creating it fails; there is no weaker mode.

A program that fails in any way gets 0, also one that ends its sandbox or that the budget of its group does not suffice
for. Tests that cannot be read or run give no verdict. Outcomes are kept by the digest of program and tests, so that
copies of a program run once; those that the budget of a group decided are kept for that group.
"""

from __future__ import annotations

from collections.abc import Sequence

from memstore.errors import InputError
from memstore_rl.sandbox import Limits, Outcome, Sandbox, Tests, read_tests
from memstore_rl.sandbox.outcome import UNJUDGEABLE
from memstore_rl.sandbox.prompt import program_of, read_prompt
from memstore_rl.verifiers.outcomes import OutcomeCache, digest
from memstore_rl.verifiers.protocol import Attempt, Verdict


class CodeVerifier:
    """Verifies answers of domain `code`. Thread-safe."""

    def __init__(self, *, limits: Limits | None = None, pairs: int | None = None) -> None:
        """Build the sandbox.

        Args:
            limits: resources that a program may use, for all its tests together.
            pairs: number of programs that run at the same time; None: one per core available to this process.

        Raises:
            SandboxError: no sandbox can be built here; the message gives the reason and the fix.
        """
        self._sandbox = Sandbox(limits=limits, pairs=pairs)
        self._outcomes = OutcomeCache[Outcome]()

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Return a verdict for each attempt, in order. Equal programs with equal tests run once.

        Raises:
            SandboxError: the verifier is closed, or its sandbox can no longer be built.
        """
        jobs = [_job(attempt) for attempt in attempts]
        unique = list(dict.fromkeys(job for job in jobs if not isinstance(job, Verdict)))
        group = _group_keys(unique)
        outcomes = {job: kept for job in unique if (kept := self._kept(job, group[job[1]])) is not None}
        new = [job for job in unique if job not in outcomes]
        for job, outcome in zip(new, self._sandbox.run_all(new), strict=True):
            outcomes[job] = outcome
            self._outcomes.put(_key(job, group[job[1]] if outcome.of_group else b""), outcome)
        return [job if isinstance(job, Verdict) else _verdict(outcomes[job]) for job in jobs]

    def _kept(self, job: tuple[str, Tests], group: bytes) -> Outcome | None:
        return self._outcomes.get(_key(job)) or self._outcomes.get(_key(job, group))

    def close(self) -> None:
        """Close the sandbox after its running programs have ended; calling it again does nothing."""
        self._sandbox.close()


def _job(attempt: Attempt) -> tuple[str, Tests] | Verdict:
    """Return the program and its tests, or the verdict if nothing needs to run."""
    try:
        tests = read_tests(attempt.gold, attempt.query)
    except InputError as error:
        return Verdict(None, str(error))
    if not attempt.answer.strip():
        return Verdict(0.0)
    return program_of(attempt.answer, read_prompt(attempt.query)), tests


def _key(job: tuple[str, Tests], group: bytes = b"") -> bytes:
    program, tests = job
    return digest(program, repr(tests), group.hex())


def _group_keys(jobs: Sequence[tuple[str, Tests]]) -> dict[Tests, bytes]:
    """Return a digest of the programs with each tests."""
    programs: dict[Tests, list[str]] = {}
    for program, tests in jobs:
        programs.setdefault(tests, []).append(program)
    return {tests: digest(*sorted(of_group)) for tests, of_group in programs.items()}


def _verdict(outcome: Outcome) -> Verdict:
    if outcome.kind in UNJUDGEABLE:
        return Verdict(
            outcome.reward, f"the program could not be judged and is wrong ({outcome.kind}): {outcome.detail}"
        )
    if outcome.reward is not None:
        return Verdict(outcome.reward)
    return Verdict(None, f"the program was not judged ({outcome.kind}): {outcome.detail}")
