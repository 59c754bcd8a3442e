"""Local copies of the benchmarks in the layout of the hub: synthetic rows with the columns of the real ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Row = dict[str, Any]

EVALPLUS = """import numpy as np

def is_floats(x) -> bool:
    return isinstance(x, float)

def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if out != exp and atol != 0:
        np.testing.assert_allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert out == exp
"""
"""Synthetic test helpers in the form of EvalPlus's."""


def word_problems(number: int) -> Row:
    return {
        "question": f"Mia has {number} nets.\nShe ties 5 more. How many?",
        "answer": f"{number} + 5\n#### {number + 5}",
    }


def lettered(number: int, labels: str = "ABCD") -> Row:
    """A multiple-choice row; the position of the right option depends on `number`."""
    right = number % len(labels)
    texts = [f"{number + 10 * (position - right)} boats" for position in range(len(labels))]
    return {
        "id": f"row-{number}",
        "question": f"Which of these is {number}?",
        "choices": {"text": texts, "label": list(labels)},
        "answerKey": labels[right],
    }


def open_book(number: int) -> Row:
    row = lettered(number)
    return {"id": row["id"], "question_stem": row.pop("question"), **row}


def exam(number: int) -> Row:
    row = lettered(number)
    return {"question": row["question"], "subject": "boats", "choices": row["choices"]["text"], "answer": number % 4}


def graduate(number: int) -> Row:
    wrong = {f"Incorrect Answer {index}": f"{number + index} hulls,\n(roughly)" for index in (1, 2, 3)}
    right = {"Question": f"How many hulls has ship {number}?", "Correct Answer": f"{number} hulls"}
    return {"Record ID": f"rec{number}", **right, **wrong}


def social(number: int) -> Row:
    answers = {
        f"answer{letter}": f"{'sail' if index == number % 3 else 'swim'} {letter}" for index, letter in enumerate("ABC")
    }
    return {
        "context": f"Kim saw {number} boats.",
        "question": "What did Kim do next?",
        **answers,
        "label": str(number % 3 + 1),
    }


def physical(number: int) -> Row:
    solutions = ["pull the rope", "push the rope"]
    return {
        "goal": f"move boat {number}",
        "sol1": solutions[number % 2],
        "sol2": solutions[1 - number % 2],
        "label": number % 2,
    }


def docstring(number: int) -> Row:
    name = f"plus_{number}"
    test = (
        EVALPLUS + f"\ndef check(candidate):\n    inputs = [[1], [2.5]]\n    results = [{1 + number}, {2.5 + number}]\n"
    )
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f"from typing import Union\n\n\ndef {name}(x: Union[int, float]):\n"
        f'    """Add {number} to x.\n    >>> {name}(0)\n    {number}\n    """\n',
        "canonical_solution": f"    return x + {number}\n",
        "entry_point": name,
        "test": test
        + "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assertion(candidate(*inp), exp, 0)\n",
    }


def one_sentence(number: int) -> Row:
    name = f"times_{number}"
    return {
        "task_id": number,
        "code": f"def {name}(x):\n    return x * {number}",
        "prompt": f"Write a function that multiplies a number by {number}.",
        "source_file": "invented",
        "test_imports": ["import math"],
        "test_list": [f"assert math.isclose({name}(2), {2 * number})", f"assert {name}(0) == 0"],
        "test": EVALPLUS + f"\ninputs = [[1], [3]]\nresults = [{number}, {3 * number}]\n"
        f"for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion({name}(*inp), exp, 0)\n",
    }


def competition(number: int) -> Row:
    return {
        "problem": f"What is half of ${number}$?",
        "solution": f"Half of it is $\\boxed{{\\frac{{{number}}}{{2}}}}$.",
        "answer": f"\\frac{{{number}}}{{2}}",
        "subject": "Algebra",
        "level": 1,
        "unique_id": f"test/algebra/{number}.json",
    }


def from_template(number: int) -> Row:
    row = word_problems(number)
    return {
        "id": number,
        "instance": number % 2,
        "original_id": number // 2,
        **row,
        "original_question": "",
        "canary": "c",
    }


def contest(number: int) -> Row:
    proof = {"problem": f"Prove that {number} is even.", "solution": "It is divided by two. The proof is complete."}
    solved = {"problem": f"What is $\\sqrt{{{number}}}$?", "solution": f"It is $\\boxed{{\\sqrt{{{number}}}}}$."}
    return {"source": "invented", **(proof if number % 4 == 0 else solved), "messages": []}


Maker = Callable[[int], Row]
SETS: dict[str, tuple[Maker, str]] = {
    "gsm8k": (word_problems, "openai/gsm8k/main"),
    "gsm_symbolic": (from_template, "gsm_symbolic/main"),
    "math": (competition, "math"),
    "numina_math": (contest, "AI-MO/NuminaMath-CoT/data"),
    "mmlu": (exam, "mmlu/all"),
    "commonsenseqa": (lambda number: lettered(number, "ABCDE"), "tau/commonsense_qa/data"),
    "obqa": (open_book, "obqa/main"),
    "arc_c": (lambda number: lettered(number, "ABCD" if number % 3 else "1234"), "arc_c/ARC-Challenge"),
    "siqa": (social, "siqa/default"),
    "piqa": (physical, "ybisk/piqa/default"),
    "humaneval_plus": (docstring, "humaneval_plus/data"),
    "mbpp_plus": (one_sentence, "mbpp_plus/data"),
}
"""Row maker and folder of every benchmark except gpqa."""
ROWS = 12
"""Number of rows per split."""


def write_table(path: Path, rows: list[Row]) -> None:
    """Write rows in the format of the file's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of every benchmark; tests must not change it."""
    from memstore_rl.benchmarks import benchmarks

    folder = tmp_path_factory.mktemp("copies")
    for index, (name, (make, subfolder)) in enumerate(SETS.items()):
        for part, split in enumerate(benchmarks()[name].splits):
            rows = [make(number) for number in range(1 + part * ROWS, 1 + (part + 1) * ROWS)]
            suffix = ("parquet", "jsonl")[index % 2]
            write_table(folder / subfolder / f"{split}-00000-of-00001.{suffix}", rows)
    write_table(folder / "gpqa" / "gpqa_diamond.csv", [graduate(number) for number in range(ROWS)])
    write_table(folder / "gpqa" / "gpqa_main.csv", [graduate(number) for number in range(100, 100 + ROWS)])
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.csv\n" for name in ("gpqa_main", "gpqa_diamond"))
    (folder / "gpqa" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the library's prepared data out of the user's cache, and local copies out of the environment."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets-cache")
    monkeypatch.delenv("MEMSTORE_DATA", raising=False)
