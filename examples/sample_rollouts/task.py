"""Arithmetic word problems in plain English, and the exact grader.

A problem has a setting, a number of things and two to four steps ("She lends 6 to a school."). Each phrase stands for
one of five operations (settings.toml) that the text does not name: knowing the operation is the skill. Problems of one
setting share phrases, so that problems with similar texts need the same skills. Every intermediate result of the right
solution lies between 1 and LARGEST. All draws come from the given `random.Random`.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

LARGEST = 199
STARTS = range(20, 61)
AMOUNTS = range(2, 10)
STEPS = (2, 2, 3, 3, 4)

PEOPLE = {"Mia": "She", "Zoe": "She", "Ada": "She", "Lena": "She", "Tom": "He", "Sam": "He", "Omar": "He", "Ben": "He"}
OPENINGS = ("{name} {opening} {start} {noun}.", "One morning {name} {opening} {start} {noun}.")
LINKS = ("{pronoun}", "Then {low}", "Later {low}", "After that {low}")
QUESTIONS = ("How many {noun} does {name} have now?", "How many {noun} are there in the end?")
FINAL = re.compile(r"(?:^|\n)#### (\d+)\s*\Z")


class Operation(Enum):
    """The effect of a phrase on the number of things."""

    ADD = "add"
    SUBTRACT = "subtract"
    ADD_TWICE = "add_twice"
    SUBTRACT_TWICE = "subtract_twice"
    DOUBLE = "double"

    def term(self, amount: int) -> int:
        """The number to add, subtract or multiply by."""
        return 2 * amount if self in (Operation.ADD_TWICE, Operation.SUBTRACT_TWICE) else amount

    def apply(self, number: int, amount: int) -> int:
        """The number of things afterwards."""
        if self is Operation.DOUBLE:
            return number * self.term(amount)
        sign = 1 if self in (Operation.ADD, Operation.ADD_TWICE) else -1
        return number + sign * self.term(amount)


@dataclass(frozen=True, slots=True)
class Skill:
    """A phrase and the operation that it stands for."""

    phrase: str
    operation: Operation

    @property
    def verb(self) -> str:
        """The first word, unique to the skill."""
        return self.phrase.split()[0]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: the opening of its problems, the things counted, and its skills."""

    opening: str
    nouns: tuple[str, ...]
    skills: tuple[Skill, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One use of a skill. The amount of a doubling is 2 and is not written."""

    skill: Skill
    amount: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem. The policy sees `text` only."""

    name: str
    start: int
    steps: tuple[Step, ...]
    text: str

    @property
    def gold(self) -> int:
        """The right answer."""
        number = self.start
        for step in self.steps:
            number = step.skill.operation.apply(number, step.amount)
        return number


@cache
def settings() -> tuple[Setting, ...]:
    """All settings with their skills, from settings.toml."""
    with (Path(__file__).parent / "settings.toml").open("rb") as file:
        tables = tomllib.load(file)["setting"]
    return tuple(
        Setting(
            table["opening"],
            tuple(table["nouns"]),
            tuple(Skill(phrase, operation) for operation in Operation for phrase in table.get(operation.value, ())),
        )
        for table in tables
    )


def skills() -> list[Skill]:
    """The skills of all settings, in the order of settings.toml."""
    return [skill for setting in settings() for skill in setting.skills]


def draw_problem(rng: random.Random, lengths: Sequence[int] = STEPS) -> Problem:
    """Draw a problem whose intermediate results lie between 1 and LARGEST, with one of these numbers of steps."""
    while True:
        setting = rng.choice(settings())
        chosen = rng.sample(setting.skills, rng.choice(lengths))
        steps = tuple(Step(s, rng.choice(AMOUNTS) if "#" in s.phrase else 2) for s in chosen)
        start = rng.choice(STARTS)
        if stays_in_range(start, ((step.skill.operation, step.amount) for step in steps)):
            name = rng.choice(list(PEOPLE))
            return Problem(name, start, steps, _text(rng, name, start, setting, steps))


def stays_in_range(number: int, changes: Iterable[tuple[Operation, int]]) -> bool:
    """Whether every intermediate result lies between 1 and LARGEST."""
    for operation, amount in changes:
        number = operation.apply(number, amount)
        if not 1 <= number <= LARGEST:
            return False
    return True


def draw_problems(rng: random.Random, count: int, known: set[str], lengths: Sequence[int] = STEPS) -> list[Problem]:
    """Draw `count` problems with new texts, which are added to `known`."""
    problems: list[Problem] = []
    while len(problems) < count:
        problem = draw_problem(rng, lengths)
        if problem.text not in known:
            known.add(problem.text)
            problems.append(problem)
    return problems


def final_answer(response: str) -> int | None:
    """The number of a last line `#### NUMBER` (blank lines aside), or None."""
    match = FINAL.search(response)
    return int(match.group(1)) if match else None


def grade(response: str, gold: int) -> float:
    """1.0 if the response ends with the right answer, else 0.0."""
    return 1.0 if final_answer(response) == gold else 0.0


def texts() -> Iterator[str]:
    """Texts that contain every word of every problem."""
    yield from (*PEOPLE, *PEOPLE.values(), *(p.lower() for p in PEOPLE.values()))
    yield from (re.sub(r"\{\w+\}", "", template) for template in (*OPENINGS, *LINKS, *QUESTIONS))
    for setting in settings():
        yield from (setting.opening, *setting.nouns, *(skill.phrase.replace("#", "") for skill in setting.skills))


def _text(rng: random.Random, name: str, start: int, setting: Setting, steps: tuple[Step, ...]) -> str:
    """The text of a problem."""
    words = {"name": name, "pronoun": PEOPLE[name], "low": PEOPLE[name].lower(), "noun": rng.choice(setting.nouns)}
    sentences = [rng.choice(OPENINGS).format(**words, opening=setting.opening, start=start)]
    for position, step in enumerate(steps):
        link = LINKS[0] if position == 0 else rng.choice(LINKS)
        sentences.append(f"{link.format(**words)} {step.skill.phrase.replace('#', str(step.amount))}.")
    sentences.append(rng.choice(QUESTIONS).format(**words))
    return " ".join(sentences)
