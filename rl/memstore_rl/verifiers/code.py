"""Programs: the answer passes the tests that the gold holds, in a sandbox; see docs/code_rewards.md.

Running what a policy wrote is a decision: whoever makes a `CodeVerifier` has taken it, and hands it to
`standard_verifiers(code=...)`. Where no sandbox can be built it cannot be made; there is no weaker mode.

A program that fails, in whatever way, is worth 0. Tests that cannot be read or run, and a sandbox that is lost, are no
verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from memstore.errors import InputError
from memstore_rl.sandbox import Limits, Outcome, Sandbox, Tests, read_tests
from memstore_rl.sandbox.prompt import program_of, read_prompt
from memstore_rl.verifiers.protocol import Attempt, Verdict


class CodeVerifier:
    """Judges answers of domain `code`."""

    def __init__(self, *, limits: Limits | None = None, pairs: int | None = None) -> None:
        """Build the sandbox.

        Args:
            limits: what a program may use, all its tests together.
            pairs: programs that run at the same time; None: one for each core that this process may use.

        Raises:
            SandboxError: none can be built here; the message says why and what helps.
        """
        self._sandbox = Sandbox(limits=limits, pairs=pairs)

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """A verdict for each attempt, in their order; the same program under the same tests is run once.

        Raises:
            SandboxError: the verifier is closed, or its sandbox cannot be built any more.
        """
        jobs = [_job(attempt) for attempt in attempts]
        runs = list(dict.fromkeys(job for job in jobs if not isinstance(job, Verdict)))
        outcomes = dict(zip(runs, self._sandbox.run_all(runs), strict=True))
        return [job if isinstance(job, Verdict) else _verdict(outcomes[job]) for job in jobs]

    def close(self) -> None:
        """End the sandbox, once the programs in it have ended; calling it again does nothing."""
        self._sandbox.close()


def _job(attempt: Attempt) -> tuple[str, Tests] | Verdict:
    """What is to be run, or the verdict where nothing is."""
    try:
        tests = read_tests(attempt.gold, attempt.query)
    except InputError as error:
        return Verdict(None, str(error))
    if not attempt.answer.strip():
        return Verdict(0.0)
    return program_of(attempt.answer, read_prompt(attempt.query)), tests


def _verdict(outcome: Outcome) -> Verdict:
    if outcome.reward is not None:
        return Verdict(outcome.reward)
    return Verdict(None, f"the program was not judged ({outcome.kind}): {outcome.detail}")
