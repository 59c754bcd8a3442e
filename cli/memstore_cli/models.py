"""`memstore models`: the reward models of a memory."""

from __future__ import annotations

from memstore_cli.opening import opened
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import print_json, print_table


def models(memory: MemoryOption = "", as_json: JsonOption = False) -> None:
    """List the reward models of the memory, the newest first."""
    with opened(memory) as store:
        from memstore_gnn.model_list import list_models

        found = list_models(store)
    if as_json:
        print_json([entry.as_json() for entry in found])
    elif found:
        print_table(
            ("model", "created", "snapshot", "auc", "accuracy", "scored"),
            [
                (
                    entry.model,
                    entry.created_at,
                    entry.snapshot,
                    entry.metrics.get("auc"),
                    entry.metrics.get("accuracy"),
                    entry.scored,
                )
                for entry in found
            ],
        )
    else:
        print(f"no reward model yet; train one with: memstore train --memory {memory}")
