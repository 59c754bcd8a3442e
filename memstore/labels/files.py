"""Files of labels: CSV with a header, JSON lines, and JSON of Label Studio.

A row labels a rollout (`id`, `reward`) or an answer of a query (`query` or `query_id`, `answer`, `reward`). A file has
rows of one kind. An answer is found by its `answer_id`, if the row has one that the query has, else by `answer`. A row
with an answer and `split: audit` marks its query as an audit query before it is labelled. A row of an export that has
`implied: true` is left out: the right answer of its query implies it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memstore.errors import InputError
from memstore.labels.answers import AnswerVerdict
from memstore.labels.audit import is_audit_split
from memstore.labels.csv_rows import ANSWER_KEYS, NEEDED, NO_REWARD, QUERY_KEYS, csv_rows
from memstore.labels.json_text import parse_json
from memstore.labels.label_studio import verdicts_of_tasks
from memstore.labels.problems import Problems

WORDS = {"right": 1.0, "correct": 1.0, "true": 1.0, "wrong": 0.0, "incorrect": 0.0, "false": 0.0}
"""Words for a reward, in lower case."""


@dataclass(frozen=True)
class LabelFile:
    """The labels of a file. One of the lists is empty."""

    rollouts: list[tuple[str, float | None]]
    """Id of a rollout, or its beginning, and the reward; None removes the label."""
    answers: list[AnswerVerdict]


def read_labels(path: Path) -> LabelFile:
    """Read a file of labels.

    Raises:
        InputError: the file cannot be read, a row is no label, or the rows are of two kinds.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # line ends within an answer stay as they are
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if text.lstrip().startswith("["):
        return LabelFile([], verdicts_of_tasks(path, text))
    rows = _json_rows(path, text) if text.lstrip().startswith("{") else csv_rows(path, text)
    rollouts: list[tuple[str, float | None]] = []
    answers: list[AnswerVerdict] = []
    problems = Problems()
    for number, row in rows:
        with problems.collect():
            if _is_implied(row.get("implied"), f"{path}:{number}: "):
                continue
            found = _label(row, f"{path}:{number}: ")
            if isinstance(found, AnswerVerdict):
                answers.append(found)
            else:
                rollouts.append(found)
            if answers and rollouts:
                raise InputError(
                    f"{path}:{number}: the file labels both rollouts (`id`) and answers (`query`, `answer`); use a "
                    "file for each"
                )
    problems.check()
    if not answers and not rollouts:
        raise InputError(f"{path} has no labels; {NEEDED}")
    return LabelFile(rollouts, answers)


def parse_reward(value: object, where: str) -> float | None:
    """A reward from a number, a word of `WORDS` or a boolean; None for no ground truth.

    Raises:
        InputError: it is something else, or lies outside 0..1.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in NO_REWARD):
        return None
    word = WORDS.get(value.strip().lower()) if isinstance(value, str) else None
    if word is not None:
        return word
    try:
        reward = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is {value!r}; pass a number from 0 (wrong) to 1 (right), or null") from error
    except OverflowError as error:
        raise InputError(f"{where} is too large; it must lie between 0 and 1") from error
    if not 0.0 <= reward <= 1.0:
        raise InputError(f"{where} is {reward:g}; it must lie between 0 and 1")
    return reward


def _is_implied(value: object, where: str) -> bool:
    word = "" if value is None else str(value).strip().lower()
    if word not in ("", "true", "false"):
        raise InputError(f"{where}`implied` is {value!r}; write true or false, or leave it empty")
    return word == "true"


def _label(row: Mapping[str, Any], where: str) -> AnswerVerdict | tuple[str, float | None]:
    if not any(row.get(key) for key in QUERY_KEYS):
        return _rollout(row, where)
    if row.get("id"):
        raise InputError(f"{where}a row labels a rollout (`id`) or an answer (`query`, `answer`), not both")
    return _answer(row, where)


def _rollout(row: Mapping[str, Any], where: str) -> tuple[str, float | None]:
    if "reward" not in row or not row.get("id"):
        names = ", ".join(map(str, row)) or "none"
        raise InputError(
            f"{where}a row needs `id` and `reward`, but has {names}; or else `query`, `answer` and `reward`"
        )
    if is_audit_split(row.get("split"), where):
        raise InputError(f"{where}only labels of answers mark an audit query; use `query`, `answer` and `reward`")
    return str(row["id"]).strip(), parse_reward(row["reward"], f"{where}the reward")


def _answer(row: Mapping[str, Any], where: str) -> AnswerVerdict:
    lacking = ["answer"] * (not any(key in row for key in ANSWER_KEYS)) + ["reward"] * ("reward" not in row)
    if lacking:
        raise InputError(f"{where}a verdict on an answer needs `query`, `answer` and `reward`, but lacks {lacking[0]}")
    query = next(str(row[key]).strip() for key in QUERY_KEYS if row.get(key))
    answer_id = str(row.get("answer_id") or "").strip() or None
    answer = answer_id if row.get("answer") in (None, "") else str(row["answer"])
    reward = parse_reward(row["reward"], f"{where}the reward")
    if answer is None and reward is None:  # an unfilled row, which must not remove the labels of the query
        raise InputError(f"{where}`answer` and `reward` are both empty; fill them in, or leave the row out")
    return AnswerVerdict(query, answer, reward, where, is_audit_split(row.get("split"), where), answer_id)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not a JSON object; write one with `id` and `reward`")
        yield number, row
