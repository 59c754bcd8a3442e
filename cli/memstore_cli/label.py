"""`memstore label`: set or remove the ground truth of rollouts by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from memstore.errors import InputError
from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption, ReplaceOption, UsageError
from memstore_cli.output import counted, print_json

NO_REWARD = ("null", "none")
"""Words for no ground truth, in lower case."""


def label(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID... REWARD",
            show_default=False,
            help="Ids of rollouts (a prefix is enough), then 0 (wrong) to 1 (right), or null for no ground truth.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", show_default=False, help="CSV or JSON lines with `id` and `reward`."),
    ] = None,
    memory: MemoryOption = "",
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Set the ground truth of rollouts, with the source `person`. The reward null removes the ground truth."""
    if bool(words) == (file is not None):
        raise UsageError("pass ids and a reward, or --file FILE with both")
    given = _rewards_in(words) if words else list(_rewards_of_file(file)) if file else []
    with open_memory(memory) as store:
        from memstore.pipeline.find import full_ids
        from memstore_schema.columns import NodeLabel

        ids = full_ids(store.graph, NodeLabel.THINKING, [name for name, _ in given])
        rewards = _by_id(ids, [reward for _, reward in given])
        changed = store.label(rewards, replace=replace)
    if as_json:
        print_json(_document(rewards, changed))
    else:
        print(_sentence(rewards, changed))


def _rewards_in(words: list[str]) -> list[tuple[str, float | None]]:
    """The reward of each id among the arguments, the last of which is the reward."""
    *ids, reward = words
    if not ids:
        raise UsageError("pass one id or more, then the reward, such as: memstore label t-0123456789ab 1")
    return [(name, _reward(reward, "REWARD")) for name in ids]


def _reward(text: object, where: str) -> float | None:
    if text is None or (isinstance(text, str) and text.strip().lower() in NO_REWARD):
        return None
    try:
        reward = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where} is {text!r}; pass a number from 0 (wrong) to 1 (right), or null") from error
    if not 0.0 <= reward <= 1.0:
        raise InputError(f"{where} is {reward:g}; it must lie between 0 and 1")
    return reward


def _rewards_of_file(path: Path) -> Iterator[tuple[str, float | None]]:
    """The ids and rewards in a file of CSV with a header, or of JSON lines.

    Raises:
        InputError: the file cannot be read, or a row has no id or no reward.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    rows = _json_rows(path, text) if text.lstrip().startswith("{") else _csv_rows(text)
    empty = True
    for number, row in rows:
        empty = False
        lacking = [key for key in ("id", "reward") if key not in row]
        if lacking or not row["id"]:
            names = ", ".join(map(str, row)) or "none"
            raise InputError(f"{path}:{number}: a row needs `id` and `reward`, but has {names}")
        reward = row["reward"]
        yield str(row["id"]).strip(), _reward(None if reward == "" else reward, f"{path}:{number}: the reward")
    if empty:
        raise InputError(f"{path} has no labels; it needs the columns id and reward")


def _csv_rows(text: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    return ((reader.line_num, {key: value for key, value in row.items() if key}) for row in reader)


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: not a JSON object; write one with `id` and `reward`")
        yield number, row


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
        return f"{counted(changed, 'rollout')} labelled, {len(rewards) - changed:,} unchanged"
    rollout, reward = next(iter(rewards.items()))
    if reward is None:
        return f"{rollout} now has no ground truth" if changed else f"nothing new: {rollout} has no ground truth"
    if changed:
        return f"{rollout} now has the ground truth {reward:g}"
    return f"nothing new: {rollout} already has the ground truth {reward:g}"
