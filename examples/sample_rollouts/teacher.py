"""A teacher that demonstrates solutions and misreads some phrases.

Each skill has a reliability, the probability that a demonstration reads it correctly, and a habit, the wrong operation
that replaces it most often. In some settings the teacher hardly errs, in others about half of the phrases are weak. A
policy that learns from the demonstrations therefore errs by skill: it agrees with itself on wrong answers, and problems
with the same skills succeed or fail together. The arithmetic of a demonstration is always right. Readings that would
leave 1..LARGEST are drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from task import PEOPLE, Operation, Problem, Skill, settings, stays_in_range

WEAK_SHARES = (0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4)
"""Number of weak skills of each setting; the seed assigns the entries to settings."""
STRONG = (0.93, 0.99)
WEAK = (0.05, 0.35)
HABITUAL = 0.9
"""Share of the wrong readings that follow the habit; the others are any other wrong operation."""
SHOWN = {
    Operation.ADD: ("add", "+"),
    Operation.SUBTRACT: ("subtract", "-"),
    Operation.ADD_TWICE: ("add", "+"),
    Operation.SUBTRACT_TWICE: ("subtract", "-"),
    Operation.DOUBLE: ("multiply by", "*"),
}


class Teacher:
    """Demonstrates solutions, with a reliability and a habit for every skill that are drawn from a seed.

    Args:
        weak_shares: number of weak skills of each setting.
    """

    def __init__(self, seed: int, weak_shares: Sequence[int] = WEAK_SHARES) -> None:
        rng = random.Random(seed)
        self.reliability: dict[str, float] = {}
        self.habit: dict[str, Operation] = {}
        weak_counts = rng.sample(weak_shares, len(weak_shares))
        for setting, weak_count in zip(settings(), weak_counts, strict=True):
            weak = set(rng.sample([skill.verb for skill in setting.skills], weak_count))
            for skill in setting.skills:
                self.reliability[skill.verb] = rng.uniform(*(WEAK if skill.verb in weak else STRONG))
                self.habit[skill.verb] = rng.choice(_wrong_readings(skill))

    def demonstrate(self, problem: Problem, rng: random.Random) -> str:
        """A response with worked steps and their answer, right or not."""
        while True:
            readings = [self._read(step.skill, rng) for step in problem.steps]
            if stays_in_range(problem.start, zip(readings, (step.amount for step in problem.steps), strict=True)):
                return _work_out(problem, readings)

    def _read(self, skill: Skill, rng: random.Random) -> Operation:
        """Draw the operation that a demonstration assigns to a phrase."""
        if rng.random() < self.reliability[skill.verb]:
            return skill.operation
        return self.habit[skill.verb] if rng.random() < HABITUAL else rng.choice(_wrong_readings(skill))


def _work_out(problem: Problem, readings: list[Operation]) -> str:
    """The response that follows from the readings, with correct arithmetic."""
    number, lines = problem.start, []
    for step, operation in zip(problem.steps, readings, strict=True):
        words, sign = SHOWN[operation]
        term, before = operation.term(step.amount), number
        number = operation.apply(number, step.amount)
        amount = str(step.amount) if "#" in step.skill.phrase else "all"
        subject = f"{PEOPLE[problem.name]} {step.skill.verb} {amount}"
        lines.append(f"{subject}, so {words} {term}: {before} {sign} {term} = {number}.")
    return "\n".join([*lines, f"#### {number}"])


def _wrong_readings(skill: Skill) -> list[Operation]:
    """What a phrase can be mistaken for: doubling only needs a phrase without an amount."""
    return [op for op in Operation if op not in (skill.operation, Operation.DOUBLE)]
