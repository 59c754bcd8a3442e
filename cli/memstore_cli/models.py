"""`memstore models`: list the reward models of a memory."""

from __future__ import annotations

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import print_json, print_table


def models(memory: MemoryOption = "", as_json: JsonOption = False) -> None:
    """List the reward models of the memory, newest first, and which one is in use."""
    with open_memory(memory) as store:
        from memstore_gnn.models.registry import list_models

        found = list_models(store)
    if as_json:
        print_json([entry.as_json() for entry in found])
    elif found:
        print_table(
            ("model", "use", "created", "snapshot", "auc", "accuracy", "scored", "files"),
            [
                (
                    entry.model,
                    "promoted" if entry.promoted else "newest" if entry.in_use else "",
                    entry.created_at[:16].replace("T", " "),
                    entry.snapshot,
                    entry.metrics.get("auc"),
                    entry.metrics.get("accuracy"),
                    entry.scored,
                    "refused" if entry.refused else "here" if entry.here else "not here",
                )
                for entry in found
            ],
        )
        for entry in found:
            if entry.refused:
                print(entry.refused)
            elif not entry.here:
                print(f"the files of {entry.model} are not here; copy {entry.path} from the machine that trained it")
    else:
        print(f"no reward model yet; train one with: memstore train --memory {memory}")
