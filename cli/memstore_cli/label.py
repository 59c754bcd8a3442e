"""`memstore label`: a person's word on a rollout."""

from __future__ import annotations

from typing import Annotated

import typer

from memstore_cli.opening import opened
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import print_json


def label(
    rollout: Annotated[str, typer.Argument(metavar="ID", help="Id of the rollout: Thinking.id, as Cypher returns it.")],
    reward: Annotated[float, typer.Argument(metavar="REWARD", help="0 (wrong) to 1 (right).")],
    memory: MemoryOption = "",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a ground truth that says otherwise.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give a rollout its ground truth, as a person sees it."""
    with opened(memory) as store:
        changed = store.label({rollout: reward}, replace=replace)
    if as_json:
        print_json({"id": rollout, "reward": reward, "changed": changed})
    elif changed:
        print(f"{rollout} now has the ground truth {reward:g}")
    else:
        print(f"nothing new: {rollout} has the ground truth {reward:g} already")
