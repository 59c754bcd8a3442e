"""`memstore stats`: count the contents of a memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import print_facts, print_json, print_table

if TYPE_CHECKING:
    from memstore.pipeline.stats import Stats


def stats(memory: MemoryOption = "", as_json: JsonOption = False) -> None:
    """Count queries, rollouts, labels and edges."""
    with open_memory(memory) as store:
        found = store.stats()
    if as_json:
        print_json(found.as_json())
    else:
        show_stats(found)


def show_stats(found: Stats) -> None:
    """Print the counts and a table of the datasets."""
    print_facts(
        {
            "queries": f"{found.queries:,} ({found.labelled_queries:,} with a ground truth)",
            "thinkings": f"{found.thinkings:,} ({found.labelled_thinkings:,} with a ground truth, "
            f"{found.predicted_thinkings:,} predicted)",
            "answers": f"{found.answers:,}",
            "runs": f"{found.runs:,}, by {found.policies:,} {'policy' if found.policies == 1 else 'policies'}",
            "edges": ", ".join(f"{name} {number:,}" for name, number in found.edges.items() if number) or "none",
            "embedder": found.embedder or "none yet",
            "namespace": f"{found.namespace} (schema {found.schema_version})",
        }
    )
    if found.datasets:
        print_table(
            ("dataset", "queries", "thinkings", "labelled", "positive", "positive rate"),
            [
                (
                    row.dataset,
                    row.queries,
                    row.thinkings,
                    row.labelled,
                    row.positive,
                    row.positive / row.labelled if row.labelled else None,
                )
                for row in found.datasets
            ],
        )
