"""Equal steps of different queries become equal lines, and hostile texts are read in a bounded time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memstore_gnn.features.step_lines import LIMIT, MAX_LENGTH, MAX_LINES, names_of, step_lines

NO_NAMES: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        ("She loans 3, so subtract 6: 55 - 6 = 49.", ["loans #, so subtract #double: ="]),
        ("He loans 4, so subtract 8: 30 - 8 = 22.", ["loans #, so subtract #double: ="]),
        ("He loans 4, so subtract 4: 30 - 4 = 26.", ["loans #, so subtract #same: ="]),
        ("Half of 8 is 4 and not 5", ["half of # is #half and not #any"]),
        ("Then she  PAYS 1,000 and then 1000.0", ["pays # and then #same"]),
        ("It costs $5 x 3 = $15 in total", ["costs = in total"]),
        ("One sentence. Another one!\nA third line", ["one sentence", "another one", "a third line"]),
        ("the same line\nThe same line.", ["the same line"]),
        # No word is left, so there is no step to share.
        ("3 + 4 = 7\n#### 7\n\n  .", []),
        ("", []),
    ],
)
def test_lines(thinking: str, expected: list[str]) -> None:
    assert step_lines(thinking, NO_NAMES) == expected


def test_names_of_the_query_are_dropped() -> None:
    names = names_of("One morning Zoe guards a museum. Later Omar helps, and then Ada.")
    assert names == {"Zoe", "Omar", "Ada"}
    assert step_lines("Zoe loans 3 to Ada's friend", names) == step_lines("She loans 5 to friend", names)
    assert step_lines("Paris loans 3", names) == ["paris loans #"]


HOSTILE = {
    "digits": "a" + "9" * 100_000,
    "separators": "ab " + "1," * 50_000,
    "dots": "ab " + "1.1" * 40_000,
    "equation": "ab " + "1 + " * 40_000 + "= 1",
    "openings": "and so then " * 20_000,
    "blanks": " " * 200_000 + "x",
    "lines": "\n".join(f"line {chr(97 + i % 26)}{chr(97 + i // 26 % 26)} of many" for i in range(50_000)),
    "capitals": "A Bc " * 40_000,
    "surrogates and nulls": "\0 ab \U0001f600 ١٢٣ ½ " * 5_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_are_bounded(text: str) -> None:
    lines = step_lines(text, names_of(text))
    assert len(lines) <= MAX_LINES
    # A number is written with at most the six characters more than a digit of "#double".
    assert all(len(line) <= 7 * MAX_LENGTH for line in lines)
    assert lines == step_lines(text[-LIMIT:], names_of(text))


def test_lines_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from memstore_gnn.features.step_lines import *\n"
        "q = 'Now Zoe and Tom and Ada meet'\n"
        "print(step_lines('Zoe b 1\\nAda c 2\\nTom d 3. ef 4', names_of(q)))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(seen) == 1
