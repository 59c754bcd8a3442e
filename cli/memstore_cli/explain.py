"""`memstore explain`: the influences behind a rollout's score."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption, ModelOption, with_option_groups
from memstore_cli.output import counted, print_facts, print_json, print_table
from memstore_cli.progress import show_progress
from memstore_cli.score import stored_golds

if TYPE_CHECKING:
    from memstore_gnn.explain.explain import Explanation
    from memstore_gnn.explain.find import RolloutFilter
    from memstore_gnn.explain.influences import Influence


@dataclass(frozen=True)
class RolloutOptions:
    """Which rollout of a query is explained."""

    policy: Annotated[str | None, typer.Option("--policy", show_default=False, help="Policy of the rollout.")] = None
    run: Annotated[str | None, typer.Option("--run", show_default=False, help="Run of the rollout.")] = None
    step: Annotated[int | None, typer.Option("--step", show_default=False, help="Training step of the rollout.")] = None
    sample: Annotated[int | None, typer.Option("--sample", show_default=False, help="Sample index of the rollout.")] = (
        None
    )

    def rollout_filter(self) -> RolloutFilter:
        """The library's form of these options."""
        from memstore_gnn.explain.find import RolloutFilter

        return RolloutFilter(self.policy, self.run, self.step, self.sample)


@with_option_groups
def explain(
    rollout: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of a rollout (a prefix is enough), or the key or id of its query."),
    ],
    selection: RolloutOptions,
    memory: MemoryOption = "",
    model: ModelOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows in the table; JSON contains all.")] = 15,
    write: Annotated[
        bool, typer.Option("--write", help="Write the influences to the graph, as INFLUENCED_BY edges.")
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a score: remove rollouts, labels, reliabilities or features, score again, and share the score out."""
    with open_memory(memory, device=device) as store, stored_golds() as judge, show_progress(as_json) as progress:
        from memstore_gnn.explain.explain import explain_rollout

        explained = explain_rollout(
            store,
            rollout,
            selection.rollout_filter(),
            model=model,
            write=write,
            judge=judge,
            device=store.settings.device,
            progress=progress,
        )
    if as_json:
        print_json(explained.as_json())
    else:
        show_explanation(explained, limit, memory)


def show_explanation(explained: Explanation, limit: int, memory: str) -> None:
    """Print the score, and the influences on it by decreasing weight."""
    print_facts(
        {
            "rollout": explained.rollout,
            "query": f"{explained.query}  {' '.join(explained.question.split())[:80]}",
            "answer": f"{explained.answer or 'none'}  ({_votes(explained)})",
            "score": f"{explained.probability:.4f} by {explained.model}",
            "reward": f"{explained.reward:.4f} ({explained.source})",
            "log odds": f"{explained.logit:+.4f}, the sum of the weights",
        }
    )
    print()
    print_table(
        ("weight", "effect", "without it", "what", "id", "label", "cosine", "text"),
        [_cells(one) for one in explained.influences[:limit]],
    )
    rest = explained.influences[limit:]
    if rest:
        print(f"and {len(rest):,} more, together {sum(one.weight for one in rest):+.4f}; --limit shows them")
    if explained.written is not None:
        print(f"{counted(explained.written, 'edge')} INFLUENCED_BY written; see:")
        print(f"memstore cypher --query why --param rollout={explained.rollout} --memory {shlex.quote(memory)}")


def _votes(explained: Explanation) -> str:
    """The rollouts with the answer, of the group and of the other groups of the query."""
    own = f"{explained.votes} of {explained.group} in its group" if explained.group > 1 else "alone in its group"
    return f"{own}, {explained.votes_of_others} of {counted(explained.others, 'vote')} of others"


def _cells(one: Influence) -> tuple[str | float | None, ...]:
    several = one.kind in ("reliability", "labelled query", "other labels", "features")
    what = f"{one.kind} ({one.taken:,})" if several else one.kind
    figures = f"{one.weight:+.4f}", f"{one.effect:+.4f}", f"{one.without:.4f}"
    return *figures, what, one.id, one.label, one.similarity, one.text
