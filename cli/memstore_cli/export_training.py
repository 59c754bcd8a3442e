"""`memstore export best` and `memstore export pairs`: scored rollouts as training data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.inspect import open_source
from memstore_cli.options import JsonOption, MemoryOption, ModelOption, with_option_groups
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore_rl.training_data.candidates import Wanted
    from memstore_rl.training_data.export import Exported, Target
    from memstore_rl.training_data.select import Distinct


class DistinctBy(StrEnum):
    """The values of `memstore_rl.training_data.select.Distinct`, which this module does not import."""

    TEXT = "text"
    ANSWER = "answer"

    @property
    def value_of_library(self) -> Distinct:
        """The library's form of this value."""
        return "answer" if self is DistinctBy.ANSWER else "text"


@dataclass(frozen=True)
class WantedOptions:
    """Which rollouts are exported."""

    model: ModelOption = None
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", metavar="NAME", show_default=False, help="Only queries of this dataset. Repeatable."),
    ] = None
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            metavar="NAME",
            show_default=False,
            help="Only queries in this split. Repeatable. Default: train, which has the queries without a split.",
        ),
    ] = None
    hide_run: Annotated[
        list[str] | None,
        typer.Option(
            "--hide-run",
            metavar="RUN",
            show_default=False,
            help="Leave out all queries that this run attempted, such as an evaluation's. Repeatable.",
        ),
    ] = None

    def wanted(self) -> Wanted:
        """The library's form of these options."""
        from memstore_rl.training_data.candidates import TRAIN, Wanted

        return Wanted(self.model, self.dataset or (), self.split or (TRAIN,), self.hide_run or ())


@dataclass(frozen=True)
class TargetOptions:
    """Where and how training data are written."""

    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            show_default=False,
            help="A .jsonl or .parquet file, or a new folder for datasets.load_dataset.",
        ),
    ]
    completion: Annotated[
        str | None,
        typer.Option(
            "--completion",
            metavar="TEMPLATE",
            show_default=r"{thinking}\n\n{answer}",
            help=r"How a completion is put together; \n is a new line.",
        ),
    ] = None
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="TEMPLATE",
            show_default="{query}",
            help=r"How a prompt is put together; with --plain, {query}\n\n by default.",
        ),
    ] = None
    system: Annotated[
        str | None,
        typer.Option("--system", metavar="TEXT", show_default=False, help="A system prompt for every row."),
    ] = None
    plain: Annotated[bool, typer.Option("--plain", help="Write texts instead of chat messages.")] = False
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False

    def target(self) -> Target:
        """The library's form of these options."""
        from memstore_rl.training_data.export import Target
        from memstore_rl.training_data.template import Template

        completion = _unescaped(self.completion) or Template.completion
        return Target(self.output, Template(completion, _unescaped(self.prompt), self.system, self.plain), self.force)


MinRewardOption = Annotated[
    float, typer.Option("--min-reward", min=0.0, max=1.0, help="Lowest reward of a rollout that is trained towards.")
]
DistinctOption = Annotated[
    DistinctBy,
    typer.Option(
        "--distinct",
        help="text: a thinking with its answer is there once per query. answer: an answer is there once per query.",
    ),
]


@with_option_groups
def best(
    target: TargetOptions,
    wanted: WantedOptions,
    best_of_n: Annotated[
        int | None,
        typer.Option(
            "--best-of-n", metavar="N", min=1, show_default="all", help="The N best rollouts of each query at most."
        ),
    ] = None,
    min_reward: MinRewardOption = 0.5,
    distinct: DistinctOption = DistinctBy.TEXT,
    memory: MemoryOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write the best rollouts of each query, for supervised fine-tuning and rejection sampling.

    Rollouts that are known to be right come first, then those of the highest probability. The memory may also be the
    folder of a snapshot. Audit queries are never exported.
    """
    with open_source(memory, read_only=True) as source, show_progress(as_json) as progress:
        from memstore_rl.training_data.export import export_best
        from memstore_rl.training_data.select import BestRule

        rule = BestRule(best_of_n, min_reward, distinct.value_of_library)
        _show(export_best(source, target.target(), rule, wanted.wanted(), progress=progress), as_json)


@with_option_groups
def pairs(
    target: TargetOptions,
    wanted: WantedOptions,
    pairs_per_query: Annotated[
        int, typer.Option("--pairs-per-query", metavar="N", min=1, help="Pairs of each query at most.")
    ] = 1,
    min_gap: Annotated[
        float, typer.Option("--min-gap", min=0.0, max=1.0, help="Lowest difference between the two rewards, above 0.")
    ] = 0.3,
    min_reward: MinRewardOption = 0.5,
    distinct: DistinctOption = DistinctBy.TEXT,
    memory: MemoryOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write pairs of a better and a worse rollout of a query, for DPO and other preference optimisation.

    The two never have the same answer. The memory may also be the folder of a snapshot. Audit queries are never
    exported.
    """
    with open_source(memory, read_only=True) as source, show_progress(as_json) as progress:
        from memstore_rl.training_data.export import export_pairs
        from memstore_rl.training_data.select import PairRule

        rule = PairRule(pairs_per_query, min_gap, min_reward, distinct.value_of_library)
        _show(export_pairs(source, target.target(), rule, wanted.wanted(), progress=progress), as_json)


def _unescaped(template: str | None) -> str | None:
    """A template of the command line, in which a new line is written as a backslash and an n."""
    return None if template is None else template.replace("\\n", "\n")


def _show(done: Exported, as_json: bool) -> None:
    if as_json:
        print_json(done.as_json())
        return
    from memstore_rl.training_data.candidates import REASONS

    splits = ", ".join(f"{name} {count:,}" for name, count in done.splits.items())
    print(f"{counted(done.rows, 'row')} of {counted(done.queries, 'query', 'queries')} in {done.output} ({splits})")
    print(f"rewards: {', '.join(f'{count:,} {name}' for name, count in done.sources.items())}")
    if done.left_out:
        reasons = (f"{count:,} {REASONS[why]}" for why, count in done.left_out.items())
        print(f"rollouts left out: {', '.join(reasons)}")
