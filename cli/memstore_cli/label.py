"""`memstore label`: set, undo, export and import the ground truth of rollouts and answers by hand."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore.errors import InputError
from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption, ReplaceOption, UsageError, with_option_groups
from memstore_cli.output import counted, print_json

if TYPE_CHECKING:
    from memstore.labels.answers import AnswerVerdict
    from memstore.memory import Memory


@dataclass(frozen=True)
class AnswerOptions:
    """A verdict on an answer."""

    query: Annotated[
        str | None,
        typer.Option(
            "--query",
            metavar="QUERY",
            show_default=False,
            help="Label an answer of this query, with --answer: its id or the beginning of it, a key, or its text.",
        ),
    ] = None
    answer: Annotated[
        str | None,
        typer.Option(
            "--answer",
            metavar="ANSWER",
            show_default=False,
            help="The answer to label: all rollouts of the query that give it get the reward.",
        ),
    ] = None


@dataclass(frozen=True)
class FileOptions:
    """Files of labels and queues."""

    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            show_default=False,
            help="CSV or JSON lines with `id` and `reward`, or with `query`, `answer` and `reward`; or JSON of Label "
            "Studio.",
        ),
    ] = None
    queue: Annotated[
        Path | None,
        typer.Option(
            "--queue",
            metavar="FILE",
            show_default=False,
            help="Ask for the right answer of each query in a file of `memstore queue`.",
        ),
    ] = None
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE",
            show_default=False,
            help="Write the verdicts on answers: JSON lines, or JSON of Label Studio if the name ends in .json.",
        ),
    ] = None


@with_option_groups
def label(
    answers: AnswerOptions,
    files: FileOptions,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]... [REWARD]",
            show_default=False,
            help="Ids of rollouts (a prefix is enough), then 0 (wrong) to 1 (right), or null for no ground truth.",
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Undo the last batch of labels, or the one whose id is given.")
    ] = False,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", show_default=False, help="Who labels, for the journal.")
    ] = None,
    memory: MemoryOption = "",
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Set the ground truth of rollouts or answers, with the source `person`. The reward null removes it."""
    words = words or []
    action = _action(words, answers, files, undo, by, replace, memory)
    with open_memory(memory) as store:
        document, sentence = action(store)
    if as_json:
        print_json(document)
    elif sentence:
        print(sentence)


Result = tuple[Mapping[str, Any], str]
"""JSON document and sentence."""


def _action(
    words: list[str],
    answers: AnswerOptions,
    files: FileOptions,
    undo: bool,
    by: str | None,
    replace: bool,
    memory: str,
) -> Callable[[Memory], Result]:
    """What the options ask for; files are read before the memory is opened."""
    with_answer = answers.query is not None or answers.answer is not None
    chosen = [with_answer, files.file is not None, files.queue is not None, files.export is not None, undo]
    if sum(chosen) > 1:
        raise UsageError("pass one of --query with --answer, --file, --queue, --export and --undo")
    if undo:
        if len(words) > 1:
            raise UsageError("--undo takes the id of one batch, or none for the last one")
        return lambda store: _undo(store, words[0] if words else None, by)
    if with_answer:
        return _labelling_answer(words, answers, by, replace, memory)
    if (files.file or files.queue or files.export) and words:
        raise UsageError("pass ids and a reward, or a file, not both")
    if files.export is not None:
        path = files.export
        return lambda store: _export(store, path)
    if files.queue is not None:
        from memstore_cli.label_queue import label_queue

        queue = files.queue
        return lambda store: label_queue(store, queue, by)
    if files.file is not None:
        return _labelling_file(files.file, by, replace, memory)
    if not words:
        raise UsageError("pass ids and a reward, or --file FILE with both")
    given = _rewards_in(words)
    return lambda store: _label_rollouts(store, given, by, replace)


def _labelling_answer(
    words: list[str], answers: AnswerOptions, by: str | None, replace: bool, memory: str
) -> Callable[[Memory], Result]:
    from memstore.labels.answers import AnswerVerdict

    if answers.query is None or answers.answer is None or len(words) != 1:
        raise UsageError("pass --query, --answer and one reward, such as: --query q-0123 --answer 42 1")
    verdict = AnswerVerdict(answers.query, answers.answer, _reward(words[0]))
    return lambda store: _label_answers(store, [verdict], by, replace, memory)


def _labelling_file(path: Path, by: str | None, replace: bool, memory: str) -> Callable[[Memory], Result]:
    from memstore.labels.files import read_labels

    read = read_labels(path)
    if read.answers:
        return lambda store: _label_answers(store, read.answers, by, replace, memory)
    return lambda store: _label_rollouts(store, read.rollouts, by, replace)


def _rewards_in(words: list[str]) -> list[tuple[str, float | None]]:
    """The reward of each id among the arguments, the last of which is the reward."""
    *ids, reward = words
    if not ids:
        raise UsageError("pass one id or more, then the reward, such as: memstore label t-0123456789ab 1")
    return [(name, _reward(reward)) for name in ids]


def _reward(text: str) -> float | None:
    from memstore.labels.files import parse_reward

    try:
        return parse_reward(text, "REWARD")
    except InputError as error:
        if "must lie between" in str(error):
            raise
        raise UsageError(str(error)) from error


def _label_rollouts(store: Memory, given: list[tuple[str, float | None]], by: str | None, replace: bool) -> Result:
    from memstore.graph.find import full_ids
    from memstore_schema.columns import NodeLabel

    ids = full_ids(store.graph, NodeLabel.THINKING, [name for name, _ in given])
    rewards = _by_id(ids, [reward for _, reward in given])
    changed = store.label(rewards, by=by, replace=replace)
    return _document(rewards, changed), _sentence(rewards, changed)


def _label_answers(store: Memory, verdicts: list[AnswerVerdict], by: str | None, replace: bool, memory: str) -> Result:
    done = store.label_answers(verdicts, by=by, replace=replace)
    where = f"{counted(done.answers, 'answer')} of {counted(done.queries, 'query', 'queries')}"
    labelled = done.changed - done.removed
    parts = [f"{counted(labelled, 'rollout')} labelled"] if labelled or not done.removed else []
    parts += [f"{counted(done.removed, 'label')} removed"] if done.removed else []
    parts += [f"{done.rollouts - done.changed:,} unchanged"]
    parts += [f"{counted(done.audit, 'query', 'queries')} marked for audit"] if done.audit else []
    undo = f"; undo it with: memstore label --undo {done.batch} --memory {shlex.quote(memory)}" if done.batch else ""
    return done._asdict(), f"{where}: {', '.join(parts)}{undo}"


def _undo(store: Memory, batch: str | None, by: str | None) -> Result:
    undone = store.undo_labels(batch, by=by)
    count = undone.changed
    who = f", labelled by {undone.by}" if undone.by else ""
    sentence = f"undone: batch {undone.id} of {undone.at}{who}, {counted(count, 'rollout')}"
    return {"undone": undone.id, "at": undone.at, "by": undone.by, "rollouts": count}, sentence


def _export(store: Memory, path: Path) -> Result:
    from memstore.labels.export import export_labels

    done = export_labels(store.stores, path)
    sentence = f"{counted(done.answers, 'verdict')} on answers of {counted(done.queries, 'query', 'queries')} in {path}"
    if done.left_out:
        sentence += (
            f"; {counted(done.left_out, 'labelled rollout')} without an answer or with contradicting labels left out"
        )
    return {"file": str(path), **done._asdict()}, sentence


def _by_id(ids: list[str], rewards: list[float | None]) -> dict[str, float | None]:
    """The reward of each rollout.

    Raises:
        InputError: a rollout is given two rewards.
    """
    found: dict[str, float | None] = {}
    for rollout, reward in zip(ids, rewards, strict=True):
        if found.setdefault(rollout, reward) != reward:
            raise InputError(f"the rollout {rollout} is given two rewards; keep one of them")
    return found


def _document(rewards: Mapping[str, float | None], changed: int) -> dict[str, Any]:
    if len(rewards) == 1:
        rollout, reward = next(iter(rewards.items()))
        return {"id": rollout, "reward": reward, "changed": changed}
    return {"rollouts": len(rewards), "changed": changed}


def _sentence(rewards: Mapping[str, float | None], changed: int) -> str:
    if len(rewards) > 1:
        removed = [reward is None for reward in rewards.values()]
        noun, verb = ("label", "removed") if all(removed) else ("rollout", "changed" if any(removed) else "labelled")
        return f"{counted(changed, noun)} {verb}, {len(rewards) - changed:,} unchanged"
    rollout, reward = next(iter(rewards.items()))
    if reward is None:
        return f"{rollout} now has no ground truth" if changed else f"nothing new: {rollout} has no ground truth"
    if changed:
        return f"{rollout} now has the ground truth {reward:g}"
    return f"nothing new: {rollout} already has the ground truth {reward:g}"
