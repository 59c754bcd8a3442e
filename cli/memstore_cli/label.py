"""`memstore label`: set the ground truth of a rollout by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption, ReplaceOption
from memstore_cli.output import print_json


def label(
    rollout: Annotated[str, typer.Argument(metavar="ID", help="Id of the rollout (Thinking.id in Cypher).")],
    reward: Annotated[float, typer.Argument(metavar="REWARD", help="0 (wrong) to 1 (right).")],
    memory: MemoryOption = "",
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Set the ground truth of a rollout; its source is recorded as a person."""
    with open_memory(memory) as store:
        changed = store.label({rollout: reward}, replace=replace)
    if as_json:
        print_json({"id": rollout, "reward": reward, "changed": changed})
    elif changed:
        print(f"{rollout} now has the ground truth {reward:g}")
    else:
        print(f"nothing new: {rollout} already has the ground truth {reward:g}")
