"""Tasks of Label Studio (its JSON format): one a query, with its answers as choices.

The data of a task are `query_id`, `query` and `answers`, a list of `{"value": answer}`. A labelling interface for them:

    <View>
      <Text name="query" value="$query"/>
      <Header value="Right"/>
      <Choices name="right" toName="query" choice="multiple" value="$answers"/>
      <Header value="Wrong"/>
      <Choices name="wrong" toName="query" choice="multiple" value="$answers"/>
    </View>

`answer_ids` of the data has the id of the answer of each choice. Where answers of a task read alike, its choices begin
with the id: `[a-0123] text`. `rewards` of an export has the rewards between 0 and 1, by id. Each holds while the answer
is chosen as before: as right if it is above 0.5, else as wrong.

Besides the answers, `answers` has a choice that says that none of them is right. `none` of the data is its name, which
no answer of the task has; in tasks without it, it is `NONE`. A task whose data have `split: audit` marks its query as
an audit query before it is labelled. Other parts of an annotation are not read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memstore.errors import InputError
from memstore.labels.answers import AnswerVerdict
from memstore.labels.audit import is_audit_split
from memstore.labels.implied import is_right
from memstore.labels.json_text import parse_json
from memstore.labels.problems import Problems

NONE = "none of these"
"""Choice of `right` that says that every answer is wrong, where no answer reads like it."""
_REWARDS = {"right": 1.0, "wrong": 0.0}
"""Reward of the choices of each control."""


def task(query_id: str, query: str, answers: Mapping[str, str], **data: Any) -> dict[str, Any]:
    """A task without annotations.

    Args:
        answers: text of each answer by its id.
        data: further values of the task's data.
    """
    names = choice_names(answers)
    none = none_choice(names.values())
    choices = [{"value": name} for name in (*names.values(), none)]
    ids = {name: answer for answer, name in names.items()}
    return {"data": {"query_id": query_id, "query": query, "answers": choices, "answer_ids": ids, "none": none, **data}}


def choice_names(answers: Mapping[str, str]) -> dict[str, str]:
    """The choice of each answer by its id: its text, after the id if two texts differ by case and blanks at most."""
    alike = len({text.strip().casefold() for text in answers.values()}) < len(answers)
    return {name: f"[{name}] {text}" if alike else text for name, text in answers.items()}


def none_choice(choices: Iterable[str]) -> str:
    """A name for the choice that no answer is right, which differs from the others by more than case and blanks."""
    taken = {choice.strip().casefold() for choice in choices}
    names = (NONE if number == 1 else f"{NONE} ({number})" for number in itertools.count(1))
    return next(name for name in names if name not in taken)


def annotation(right: Sequence[str], wrong: Sequence[str], by: str | None = None) -> dict[str, Any]:
    """An annotation with the right and the wrong answers.

    Args:
        by: who judged them; kept as `completed_by`.
    """
    result = [
        {"from_name": name, "to_name": "query", "type": "choices", "value": {"choices": list(choices)}}
        for name, choices in (("right", right), ("wrong", wrong))
        if choices
    ]
    return {"result": result} | ({} if by is None else {"completed_by": {"first_name": by}})


def verdicts_of_tasks(path: Path, text: str) -> list[AnswerVerdict]:
    """The verdicts in an export of Label Studio; cancelled annotations and tasks without one are left out.

    Raises:
        InputError: it is not a list of tasks, a task lacks the query, or there is no annotation.
    """
    found: list[AnswerVerdict] = []
    problems = Problems()
    for number, one in enumerate(_tasks(path, text), start=1):
        with problems.collect():
            found += _verdicts_of_task(one, f"{path}: task {number}: ")
    problems.check()
    if not found:
        raise InputError(f"{path} has no annotation with a choice; label some tasks in Label Studio first")
    return list(dict.fromkeys(found))


def data_of_tasks(path: Path, text: str) -> list[object]:
    """The data of the tasks in a file of Label Studio; None for what is no task.

    Raises:
        InputError: it is not JSON.
    """
    return [one.get("data") if isinstance(one, Mapping) else None for one in _tasks(path, text)]


def _tasks(path: Path, text: str) -> list[object]:
    """The items of a list in JSON."""
    try:
        return list(parse_json(text))
    except ValueError as error:
        raise InputError(f"{path} is not JSON of Label Studio ({error}); export it as JSON again") from error


def _verdicts_of_task(one: object, where: str) -> list[AnswerVerdict]:
    data = one.get("data") if isinstance(one, Mapping) else None
    query = (data.get("query_id") or data.get("query")) if isinstance(data, Mapping) else None
    if not isinstance(one, Mapping) or not isinstance(data, Mapping) or not isinstance(query, str):
        raise InputError(f"{where}its data have neither `query_id` nor `query`; export tasks of `memstore queue`")
    annotations = one.get("annotations") or []
    if not isinstance(annotations, list) or not all(isinstance(made, Mapping) for made in annotations):
        raise InputError(f"{where}`annotations` is not a list of objects; export the project as JSON")
    kept = [made for made in annotations if not made.get("was_cancelled")]
    verdicts = [verdict for made in kept for verdict in _verdicts(query, made, data.get("none", NONE), where)]
    ids = {choice: str(name) for choice, name in _object(data, "answer_ids", where).items()}
    rewards, audit = _object(data, "rewards", where), is_audit_split(data.get("split"), where)
    return [_completed(verdict, ids.get(verdict.answer), rewards)._replace(audit=audit) for verdict in verdicts]


def _object(data: Mapping[str, Any], name: str, where: str) -> Mapping[Any, Any]:
    found = data.get(name) or {}
    if not isinstance(found, Mapping):
        raise InputError(f"{where}`{name}` of its data is not an object; export tasks of `memstore queue`")
    return found


def _completed(verdict: AnswerVerdict, answer_id: str | None, rewards: Mapping[Any, Any]) -> AnswerVerdict:
    """A verdict with the id of its answer, and with the exact reward unless the choice was changed."""
    reward = rewards.get(answer_id)
    if reward is None:
        return verdict._replace(answer_id=answer_id)
    if isinstance(reward, bool) or not isinstance(reward, int | float) or not 0.0 <= reward <= 1.0:
        raise InputError(f"{verdict.where}the reward of {answer_id} is {reward!r}; it must lie between 0 and 1")
    kept = reward if is_right(reward) == is_right(verdict.reward) else verdict.reward
    return verdict._replace(answer_id=answer_id, reward=kept)


def _verdicts(query: str, made: Mapping[str, Any], none: object, where: str) -> list[AnswerVerdict]:
    found = []
    for part in made.get("result") or []:
        name = part.get("from_name") if isinstance(part, Mapping) else None
        if name not in _REWARDS:
            continue
        value = part.get("value")
        choices = value.get("choices") if isinstance(value, Mapping) else None
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise InputError(f"{where}the result {name!r} has no list of choices; use a Choices control for it")
        if none not in choices:
            found += [AnswerVerdict(query, choice, _REWARDS[name], where) for choice in choices]
        elif name == "wrong":
            raise InputError(f"{where}{none!r} is chosen as wrong, which judges no answer; choose the right answer")
        elif len(choices) > 1:
            raise InputError(f"{where}both {none!r} and an answer are chosen as right; keep one of them")
        else:
            found.append(AnswerVerdict(query, None, 0.0, where))
    return found
